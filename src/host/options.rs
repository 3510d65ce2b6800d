//! What clients of a host directory may do beyond regular files, directories and symlinks.
//!
//! Files of every type but block devices can always be walked to and looked at. The options say
//! which of the others can be used.
#![forbid(unsafe_code)]

use core::fmt;
use core::str::FromStr;

/// The policy of a [`HostFs`](super::HostFs). The default permits nothing special, and all
/// attributes.
///
/// ```
/// use lisafs::host::{HostOptions, HostUds};
///
/// // The choices have the spelling of the command lines.
/// let host_uds: HostUds = "open".parse()?;
/// let options = HostOptions { host_uds, ..HostOptions::default() };
/// assert!(options.host_uds.opens() && !options.host_uds.creates());
/// assert!("perhaps".parse::<HostUds>().is_err());
/// # Ok::<(), lisafs::host::UnknownChoice>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// What may be done with Unix sockets in the directory.
    pub host_uds: HostUds,
    /// What may be done with FIFOs in the directory.
    pub host_fifo: HostFifo,
    /// What may be done with character devices in the directory.
    pub character_devices: CharacterDevices,
    /// Which extended attributes clients see.
    pub xattrs: Xattrs,
    /// Whether Mount hands out a descriptor of the connection's root, which can be a file of any type.
    /// Directories and regular files can be read through it, as far as this process may read them; for
    /// the others it is an O_PATH descriptor. What it cannot do is open the root itself with other flags,
    /// so OpenAt of the root hands out a descriptor, too. Whoever has it reaches the root and everything below,
    /// with no more checks than the kernel makes.
    pub donate_root: bool,
}

/// A word that is none of the choices.
///
/// ```
/// use lisafs::host::HostFifo;
///
/// let error = "perhaps".parse::<HostFifo>().unwrap_err();
/// assert_eq!(error.to_string(), "`perhaps` is not one of none, open");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {choices}")]
pub struct UnknownChoice {
    word: String,
    choices: &'static str,
}

macro_rules! choice {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$variant_about:meta])* $variant:ident = $word:literal,)+
        }
        one of $choices:literal
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)+
        }

        impl $name {
            /// All choices.
            pub const ALL: &[$name] = &[$($name::$variant),+];
        }

        /// The spelling of the command lines.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $($name::$variant => $word,)+
                })
            }
        }

        impl FromStr for $name {
            type Err = UnknownChoice;

            fn from_str(word: &str) -> Result<$name, UnknownChoice> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownChoice { word: word.to_owned(), choices: $choices }),
                }
            }
        }
    };
}

choice! {
    /// What may be done with Unix sockets.
    ///
    /// ```
    /// use lisafs::host::HostUds;
    ///
    /// assert!(HostUds::Create.creates() && !HostUds::Create.opens());
    /// assert_eq!("all".parse(), Ok(HostUds::All));
    /// ```
    pub enum HostUds {
        /// Nothing.
        #[default]
        None = "none",
        /// Connect to those that exist.
        Open = "open",
        /// Bind new ones.
        Create = "create",
        /// Both.
        All = "all",
    }
    one of "none, open, create, all"
}

impl HostUds {
    /// Whether clients may connect to sockets.
    #[must_use]
    pub fn opens(self) -> bool {
        matches!(self, HostUds::Open | HostUds::All)
    }

    /// Whether clients may bind sockets.
    #[must_use]
    pub fn creates(self) -> bool {
        matches!(self, HostUds::Create | HostUds::All)
    }
}

choice! {
    /// What may be done with FIFOs.
    ///
    /// ```
    /// use lisafs::host::{HostFifo, HostOptions};
    ///
    /// assert_eq!(HostOptions::default().host_fifo, HostFifo::None);
    /// assert_eq!("open".parse(), Ok(HostFifo::Open));
    /// ```
    pub enum HostFifo {
        /// Nothing.
        #[default]
        None = "none",
        /// Open those that exist.
        Open = "open",
    }
    one of "none, open"
}

choice! {
    /// What may be done with character devices.
    ///
    /// ```
    /// use lisafs::host::{CharacterDevices, HostOptions};
    ///
    /// assert_eq!(HostOptions::default().character_devices, CharacterDevices::None);
    /// assert_eq!("open".parse(), Ok(CharacterDevices::Open));
    /// ```
    pub enum CharacterDevices {
        /// Nothing.
        #[default]
        None = "none",
        /// Open them, which gives the client the device.
        Open = "open",
    }
    one of "none, open"
}

choice! {
    /// Which extended attributes clients see and, unless they only read, set.
    ///
    /// ```
    /// use lisafs::host::{HostOptions, Xattrs};
    ///
    /// let options = HostOptions { xattrs: "user".parse()?, ..HostOptions::default() };
    /// assert_eq!(options.xattrs, Xattrs::User);
    /// # Ok::<(), lisafs::host::UnknownChoice>(())
    /// ```
    pub enum Xattrs {
        /// Whatever the kernel permits this process, which for a privileged one includes
        /// `trusted.` (gVisor's overlay keeps its marks there) and `security.`.
        #[default]
        All = "all",
        /// Those in the `user.` namespace.
        User = "user",
        /// None: the operations answer EOPNOTSUPP.
        None = "none",
    }
    one of "all, user, none"
}

#[cfg(test)]
mod tests {
    use super::{CharacterDevices, HostFifo, HostUds, Xattrs};

    #[test]
    fn every_choice_is_parsed_from_its_own_spelling() {
        fn check<T>(all: &[T])
        where
            T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug + Copy,
            T::Err: ToString,
        {
            for choice in all {
                assert_eq!(choice.to_string().parse().ok(), Some(*choice));
            }
            let error = "sometimes".parse::<T>().err().unwrap().to_string();
            for choice in all {
                assert!(error.contains(&choice.to_string()), "{error}");
            }
        }
        check(HostUds::ALL);
        check(HostFifo::ALL);
        check(CharacterDevices::ALL);
        check(Xattrs::ALL);
    }

    #[test]
    fn sockets_are_opened_and_created_by_separate_permissions() {
        let may = |uds: HostUds| (uds.opens(), uds.creates());
        assert_eq!(may(HostUds::None), (false, false));
        assert_eq!(may(HostUds::Open), (true, false));
        assert_eq!(may(HostUds::Create), (false, true));
        assert_eq!(may(HostUds::All), (true, true));
    }
}
