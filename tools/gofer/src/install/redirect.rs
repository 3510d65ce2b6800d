//! Making a `runsc` execute something else where it would execute itself.
//!
//! runsc finds itself by `/proc/self/exe`, a string constant of the Go program, whose bytes are in
//! the section `.rodata` once. Another path of as many bytes in their place is all it takes. Other
//! programs that are carried along as data have that string as well, but in other sections: they
//! must not change.
#![forbid(unsafe_code)]

use std::ops::Range;

/// The path that is replaced.
const SELF: &[u8; LENGTH] = b"/proc/self/exe";

/// How many bytes the path has that comes in its place.
pub(crate) const LENGTH: usize = 14;

/// Why a program cannot be made to execute something else.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error(
        "it is not an ELF program for a 64-bit little-endian machine: name the runsc binary itself"
    )]
    NotAnElf,
    #[error("it has no section `.rodata`: it is packed, or not built by Go")]
    NoConstants,
    #[error("it does not hold the path /proc/self/exe: it is no runsc, or one that was patched")]
    NotFound,
    #[error("it holds the path /proc/self/exe {0} times, and it is not known which one counts")]
    Ambiguous(usize),
}

/// Where a runsc holds the path to itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl Place {
    /// Finds it.
    ///
    /// # Errors
    /// If it is not certain that this is the place.
    pub(crate) fn find(program: &[u8]) -> Result<Place, Unfit> {
        let constants = constants(program)?;
        let start = constants.start;
        let section = program.get(constants).ok_or(Unfit::NotAnElf)?;
        let mut places = section
            .windows(LENGTH)
            .enumerate()
            .filter(|(_, window)| window == SELF);
        let (at, _) = places.next().ok_or(Unfit::NotFound)?;
        match places.count() {
            0 => Ok(Place(start.saturating_add(at))),
            more => Err(Unfit::Ambiguous(more.saturating_add(1))),
        }
    }

    /// A program with another path there. It is the one that was searched.
    pub(crate) fn filled(self, program: &[u8], path: &[u8; LENGTH]) -> Vec<u8> {
        let mut program = program.to_vec();
        let place = program.get_mut(self.0..).and_then(<[u8]>::first_chunk_mut);
        if let Some(place) = place {
            *place = *path;
        }
        program
    }
}

/// Where the constants of a program are.
fn constants(elf: &[u8]) -> Result<Range<usize>, Unfit> {
    let table = SectionTable::of(elf).ok_or(Unfit::NotAnElf)?;
    let mut sections = (0..table.entries).filter_map(|index| table.section(index));
    let range = sections.find(|section| table.name(section) == Some(b".rodata"));
    range.map(|section| section.bytes).ok_or(Unfit::NoConstants)
}

/// The section headers of an ELF file of 64-bit little-endian form.
struct SectionTable<'a> {
    elf: &'a [u8],
    offset: usize,
    entry_size: usize,
    entries: usize,
    /// Which of them holds the names.
    names: usize,
}

/// The size of a section header.
const HEADER: usize = 0x40;

struct Section {
    /// Where its name begins among the names.
    name: usize,
    bytes: Range<usize>,
}

impl<'a> SectionTable<'a> {
    /// None if this is no such file.
    fn of(elf: &'a [u8]) -> Option<SectionTable<'a>> {
        // EI_MAG, then ELFCLASS64 and ELFDATA2LSB.
        if !elf.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        Some(SectionTable {
            elf,
            offset: long(elf, 0x28)?,
            entry_size: short(elf, 0x3a)?,
            entries: short(elf, 0x3c)?,
            names: short(elf, 0x3e)?,
        })
    }

    fn section(&self, index: usize) -> Option<Section> {
        let at = index
            .checked_mul(self.entry_size)?
            .checked_add(self.offset)?;
        let header: &[u8; HEADER] = self.elf.get(at..)?.first_chunk()?;
        let start = long(header, 0x18)?;
        let end = start.checked_add(long(header, 0x20)?)?;
        Some(Section {
            name: usize::try_from(u32::from_le_bytes(field(header, 0)?)).ok()?,
            bytes: start..end,
        })
    }

    fn name(&self, section: &Section) -> Option<&'a [u8]> {
        let names = self.elf.get(self.section(self.names)?.bytes)?;
        names.get(section.name..)?.split(|byte| *byte == 0).next()
    }
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn short(bytes: &[u8], offset: usize) -> Option<usize> {
    field(bytes, offset)
        .map(u16::from_le_bytes)
        .map(usize::from)
}

fn long(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(field(bytes, offset)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, Place, SELF, Unfit};

    const OTHER: &[u8; LENGTH] = b"/etc/lisafs/g0";

    fn redirect(program: &mut Vec<u8>, path: &[u8; LENGTH]) -> Result<(), Unfit> {
        *program = Place::find(program)?.filled(program, path);
        Ok(())
    }

    /// An ELF file of the sections `.rodata`, `.data` and the names.
    fn elf(constants: &[u8], data: &[u8]) -> Vec<u8> {
        let names = b"\0.rodata\0.data\0.shstrtab\0";
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(0x40, 0);
        let mut headers = Vec::new();
        for (name, content) in [(1_u32, constants), (9, data), (15, names)] {
            let mut header = vec![0; 0x40];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
            file.extend(content);
            headers.extend(header);
        }
        let table = file.len() as u64;
        file[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        file[0x3a..0x3c].copy_from_slice(&0x40_u16.to_le_bytes());
        file[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
        file[0x3e..0x40].copy_from_slice(&2_u16.to_le_bytes());
        file.extend(headers);
        file
    }

    fn around(before: &[u8], path: &[u8], after: &[u8]) -> Vec<u8> {
        [before, path, after].concat()
    }

    #[test]
    fn the_one_place_is_replaced_and_nothing_else() {
        for (before, after) in [
            (&b"core dumped"[..], &b"ecode_"[..]),
            (b"", b""),
            (b"x", b""),
        ] {
            // What is carried along as data keeps its own path.
            let mut program = elf(&around(before, SELF, after), SELF);
            let expected = elf(&around(before, OTHER, after), SELF);
            assert_eq!(redirect(&mut program, OTHER), Ok(()));
            assert_eq!(program, expected);
        }
    }

    #[test]
    fn a_program_without_certain_place_is_left_alone() {
        let twice = [&SELF[..], b"\0", SELF].concat();
        for (constants, expected) in [
            (&b""[..], Unfit::NotFound),
            (&SELF[..LENGTH - 1], Unfit::NotFound),
            (OTHER, Unfit::NotFound),
            (&twice, Unfit::Ambiguous(2)),
        ] {
            let before = elf(constants, SELF);
            let mut program = before.clone();
            assert_eq!(redirect(&mut program, OTHER), Err(expected));
            assert_eq!(program, before);
        }
    }

    #[test]
    fn what_is_no_elf_file_is_told_apart() {
        for content in [
            &b""[..],
            b"#!/bin/sh\nexec /proc/self/exe\n",
            b"\x7fELF\x01\x01",
        ] {
            let mut content = content.to_vec();
            assert_eq!(redirect(&mut content, OTHER), Err(Unfit::NotAnElf));
        }
        let mut unnamed = elf(SELF, b"");
        let at = unnamed
            .windows(7)
            .position(|window| window == b".rodata")
            .unwrap();
        unnamed[at] = b'-';
        assert_eq!(redirect(&mut unnamed, OTHER), Err(Unfit::NoConstants));
    }

    /// Wherever a file is cut off, and whatever a byte of its header says.
    #[test]
    fn a_damaged_file_is_refused_or_changed_in_one_place() {
        let whole = elf(SELF, SELF);
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert!(redirect(&mut cut, OTHER).is_err(), "{length}");
        }
        for at in 0..0x40 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let before = damaged.clone();
                let done = redirect(&mut damaged, OTHER).is_ok();
                let changed = damaged
                    .iter()
                    .zip(&before)
                    .filter(|(now, then)| now != then);
                assert!(
                    changed.count() <= if done { LENGTH } else { 0 },
                    "{at} {value}"
                );
            }
        }
    }
}
