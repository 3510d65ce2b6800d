//! The host back end behind a server: what needs privileges, or the want of them, and what the
//! process as a whole must keep. Cases that cannot run here are shown as skipped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may panic

mod closing;
mod departed;
mod failures;
mod identities;
mod mounts;
mod ownership;
mod scene;
mod sockets;

use libtest_mimic::{Arguments, Trial};

macro_rules! cases {
    ($($module:ident::$case:ident)*) => {
        vec![$((stringify!($case), $module::$case as fn())),*]
    };
}

fn main() {
    let root = nix::unistd::geteuid().is_root();
    let anybody = cases! {
        // The first: connections of other cases may still be ending.
        failures::requests_that_fail_leave_nothing_open
        failures::a_file_that_is_unlinked_and_closed_is_not_kept
        identities::what_is_removed_or_replaced_here_keeps_working_for_all_connections
        identities::no_request_ever_meets_another_file
        identities::what_others_remove_or_replace_through_the_server_is_never_lost
        identities::what_is_looked_at_by_way_of_held_directories_is_what_is_there
        ownership::modes_are_exact_on_every_thread
        ownership::links_of_one_file_survive_their_rename
        ownership::a_read_only_root_is_only_given_away_if_it_is_mounted_so
        sockets::sockets_work_at_any_depth
        sockets::the_address_of_a_peer_is_not_told
        closing::a_reader_sees_the_end_when_a_writer_is_closed
        closing::a_peer_sees_the_end_when_a_connection_is_closed
        closing::a_bound_socket_that_is_closed_accepts_nobody
    };
    let grounded = cases! {
        identities::what_an_outsider_removes_or_replaces_is_stale
        identities::what_is_created_looks_the_same_to_all_who_ask
        identities::more_files_are_known_than_there_are_descriptors
        identities::a_file_known_by_more_ids_than_there_are_descriptors_outlives_its_name
        departed::nothing_is_left_of_clients_that_have_moved_files_of_others
    };
    let has_ground = identities::ground().is_some();
    let privileged = cases! {
        mounts::entries_are_those_of_what_is_mounted_on_them
        ownership::the_group_asked_for_wins_in_a_set_group_id_directory
        ownership::the_capabilities_of_a_program_do_not_survive_a_change_of_it
        sockets::connections_show_the_identity_asked_for
    };
    let ordinary = cases! {
        failures::what_cannot_be_given_away_is_removed_again
        failures::permissions_of_the_user_count
    };
    let mut trials = Vec::new();
    for (cases, runs, needs) in [
        (anybody, true, ""),
        (
            grounded,
            has_ground,
            "needs a file system with times of birth",
        ),
        (privileged, root, "needs root"),
        (ordinary, !root, "needs an ordinary user"),
    ] {
        for (name, case) in cases {
            let run = move || {
                case();
                Ok(())
            };
            let kind = if runs { "" } else { needs };
            trials.push(
                Trial::test(name, run)
                    .with_kind(kind)
                    .with_ignored_flag(!runs),
            );
        }
    }
    let mut arguments = Arguments::from_args();
    // Descriptors of the process are counted.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}
