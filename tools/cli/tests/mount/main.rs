//! `lisafs mount`: whether programs find in a mount what they find in a plain directory, and what
//! becomes of it when it ends. Where nothing can be mounted, all cases are shown as skipped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may panic

mod ends;
mod fixture;
mod listings;
mod names;
mod open_files;
mod programs;
mod special;
mod transcript;

use libtest_mimic::{Arguments, Trial};

use self::transcript::compare;

/// The ways to mount of which each has its own way through the kernel.
const WAYS: &[(&str, &[&str])] = &[
    ("passthrough", &[]),
    ("donated", &["--io", "donated", "--cache", "60"]),
    ("server", &["--io", "server", "--cache", "none"]),
    ("writeback", &["--writeback", "--cache", "60"]),
];

macro_rules! cases {
    ($kind:ty; $($module:ident::$case:ident)*) => {
        [$((stringify!($case), $module::$case as $kind)),*]
    };
}

fn main() {
    // What is done in a directory, and says what it found.
    let compared = cases! { transcript::Case;
        names::files_are_made_as_asked
        names::links_are_counted
        names::every_name_of_a_file_is_as_good
        names::renames_replace_exchange_and_refuse
        names::symlinks_lead_where_they_say
        names::names_have_their_limits
        names::attributes_are_changed_one_by_one
        names::set_group_id_directories_give_their_group
        names::extended_attributes_are_kept
        open_files::contents_are_what_was_written
        open_files::removed_files_stay_open
        open_files::truncation_follows_the_open_mode
        open_files::appended_data_goes_to_the_end
        open_files::writers_do_not_disturb_each_other
        open_files::space_is_allocated_and_freed
        open_files::data_is_found_and_copied
        open_files::locks_exclude
        open_files::mapped_memory_is_the_file
        listings::entries_are_all_there
        listings::positions_in_a_directory_are_kept
        listings::a_directory_is_listed_anew
    };
    // What is done with a mount.
    let others = cases! { fn();
        special::files_without_a_name_are_not_supported
        special::special_files_are_those_of_this_machine
        special::what_is_out_of_reach_is_listed
        special::the_space_is_that_of_the_server
        special::nothing_changes_on_a_read_only_mount
        special::what_others_change_shows
        special::files_that_others_remove_stay_open
        special::a_server_that_grants_little_is_enough
        programs::git_keeps_a_repository
        programs::sqlite_keeps_a_database
        programs::tar_brings_a_tree_back
        programs::direct_io_reads_and_writes
        ends::signals_end_a_mount
        ends::umount_ends_a_mount
        ends::who_uses_a_mount_is_waited_for
        ends::a_second_signal_waits_for_nobody
        ends::a_server_that_dies_frees_the_mount_point
        ends::what_cannot_be_mounted_is_refused
    };
    let obstacle = fixture::obstacle();
    let mut trials = Vec::new();
    for (name, case) in compared {
        for (way, options) in WAYS {
            let run = move || {
                compare(case, options);
                Ok(())
            };
            trials.push(Trial::test(format!("{way}::{name}"), run));
        }
    }
    for (name, case) in others {
        let run = move || {
            case();
            Ok(())
        };
        trials.push(Trial::test(name, run));
    }
    let trials = trials
        .into_iter()
        .map(|trial| {
            let kind = obstacle.unwrap_or_default();
            trial.with_kind(kind).with_ignored_flag(obstacle.is_some())
        })
        .collect();
    let mut arguments = Arguments::from_args();
    // A program that another case starts has what is open in a mount until it is what it is to be, and who
    // ends that mount would have to wait.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}
