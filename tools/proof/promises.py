"""What chaosd promises about clients, devices and disks, and the tests that hold each: for docs/reliability.md.

A test checks that each of them is there (tests/test_promises.py). Where a run of `tools/abuse` does the same many times
over, its name stands behind the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROMISES", "Promise"]


@dataclass(frozen=True)
class Promise:
    """`tests` are `room/file::name`, without `tests/`, `test_` and `.py`; `abuse` is a part of an abuse's name."""

    text: str
    tests: tuple[str, ...]
    abuse: str = ""


PROMISES = (
    Promise(
        "A wait may be of any length, and no exception ends the thread that waits for all",
        ("system/pump::a_wait_may_be_as_long_as_it_likes", "system/pump::no_exception_of_a_callback_ends_the_thread"),
        "waits of 30 days",
    ),
    Promise(
        "Streams and clients are refused before files run out",
        (
            "faults/clients::more_streams_than_the_soft_limit_has_room_for_and_a_client",
            "faults/clients::streams_are_refused_before_files_run_out_and_what_runs_goes_on",
            "faults/clients::with_too_few_files_it_says_so_and_does_not_begin",
            "faults/clients::more_idle_connections_than_may_come_cost_a_capture_nothing",
            "doors/few_descriptors::a_burst_of_connections_is_accepted_no_faster_than_it_is_counted",
        ),
        "connections at once",
    ),
    Promise(
        "A store that is gone, or a disk that hangs, keeps no command waiting but those about it",
        (
            "engine/ends::status_without_a_store_says_so_and_nothing_ends",
            "engine/ends::status_does_not_wait_for_a_disk_that_hangs",
            "engine/ends::a_path_on_a_disk_that_hangs_holds_up_nobody",
            "engine/ends::storage_that_hangs_is_told_while_it_does",
            "engine/astray::a_store_that_is_moved_away_is_told_and_so_is_its_return",
            "engine/astray::nothing_comes_in_the_place_of_a_store_that_is_away",
            "faults/disks::a_disk_that_hangs_holds_up_its_own_frames_alone",
        ),
        "the store's folder",
    ),
    Promise(
        "No stop is clean, and no end of chaosd a success, where a recording is not whole at its path",
        (
            "engine/astray::a_recording_that_is_not_at_its_path_is_not_clean",
            "engine/astray::a_journal_that_something_else_has_the_name_of_is_not_clean",
            "engine/astray::a_store_that_was_removed_is_not_called_safe",
            "engine/astray::an_end_that_storage_keeps_from_being_whole_is_not_clean",
        ),
    ),
    Promise(
        "No number, time or path that chaosd is given is a defect, however odd it is",
        (
            "engine/astray::no_number_and_no_time_is_a_defect",
            "engine/astray::a_path_that_no_answer_could_name_is_refused",
        ),
    ),
    Promise(
        "Nothing that a program says of its nodes ends the list of devices",
        (
            "engine/registry::no_client_of_pipewires_ends_it",
            "graph/hostile::whatever_it_says_a_node_is_described_or_left_out",
            "live/ordinary::a_node_that_says_what_no_device_should_harms_nobody",
        ),
        "tells of itself",
    ),
    Promise(
        "A path that can't be written to is refused when it is named",
        (
            "store/places::a_folder_without_the_right_to_write_is_told_at_once",
            "store/places::folders_may_be_as_deep_as_paths_can_be",
            "protocol/wire::names_that_no_file_can_have_are_refused",
        ),
        "names, paths and numbers",
    ),
    Promise(
        "A defect in any message of any actor costs that message, or its stream, and everybody is answered once; an end"
        " comes in time, whatever hangs",
        (
            "engine/supervision::a_defect_in_any_message",
            "engine/ends::what_hangs_in_storage_is_left_behind_and_named",
            "engine/ends::streams_are_stored_though_the_daemon_is_dead",
            "engine/ends::where_the_system_gives_no_more_threads_an_end_does_not_hang",
            "live/signals::storage_that_hangs_keeps_no_process",
        ),
    ),
    Promise(
        "Every stop is answered, and what is sent behind a start takes effect after it",
        (
            "engine/ends::stops_on_top_of_each_other_are_all_answered_with_the_same_end",
            "engine/ends::what_is_sent_behind_a_start_takes_effect_after_it",
            "engine/ends::a_start_and_a_stop_during_recovery_are_answered",
        ),
        "two clients at once",
    ),
    Promise(
        "Waits end with their client, and are few",
        (
            "doors/bus::waits_end_with_their_client_and_are_few",
            "live/ordinary::a_client_that_goes_takes_its_waits_along",
        ),
        "waits of 30 days",
    ),
    Promise(
        "Subscriptions are counted and capped, and what they cost is given back",
        (
            "doors/bus::a_client_with_too_many_prefixes_is_dropped",
            "doors/inflow::who_subscribes_faster_than_can_be_taken_in_is_cut_off",
            "doors/inflow::what_clients_have_use_for_is_taken_in",
            "doors/few_descriptors::what_subscribers_beyond_the_cap_cost_is_given_back",
        ),
        "subscriptions",
    ),
    Promise(
        "A client that does not read, or whose message does not end, is dropped in time",
        (
            "doors/bus::a_client_that_does_not_read_is_dropped_in_time",
            "doors/bus::a_deaf_client_that_is_only_ever_refused_is_dropped",
            "doors/bus::a_message_that_does_not_end_fills_no_memory",
            "doors/half_messages::half_messages_of_many_clients_fill_no_memory",
            "doors/half_messages::what_half_messages_below_the_bound_cost_is_given_back",
            "doors/inflow::a_subscriber_whose_message_does_not_end_fills_no_memory",
            "doors/bus::subscribers_that_do_not_read_are_bounded_together",
            "doors/bus::ids_are_short",
            "faults/clients::all_of_it_costs_no_frame_and_nothing_is_kept",
        ),
        "doesn't read",
    ),
    Promise(
        "A large stream that starts costs its neighbours no frame",
        (
            "staging/memory::others_go_on_while_a_large_one_is_prepared",
            "live/memory::starting_a_large_stream_costs_its_neighbour_nothing",
        ),
        "an hour of staging",
    ),
    Promise(
        "No signal but SIGKILL and those of a crash ends it without sealing",
        (
            "system/signals::no_signal_ends_the_process_by_its_default",
            "live/signals::it_ends_cleanly",
            "live/signals::a_terminal_that_closes_is_a_clean_end",
            "live/signals::a_report_goes_to_the_log_and_capture_goes_on",
        ),
        "SIGUSR1",
    ),
    Promise(
        "Ports that come and go are seen, and a capture goes on",
        (
            "live/ordinary::ports_that_come_and_go_are_seen_and_a_capture_goes_on",
            "live/ordinary::a_node_whose_ports_come_slowly_is_listed",
            "live/ordinary::a_device_that_comes_back_while_chaosd_can_not_look_is_listed",
        ),
        "ports that come and go",
    ),
    Promise(
        "A second node of the same name stops nothing",
        (
            "live/ordinary::a_second_node_of_the_same_name_stops_nothing",
            "graph/followed::a_node_id_or_an_object_serial_chooses_among_equal_names",
        ),
        "a second node",
    ),
    Promise(
        "Another device with the same serial number is not taken for the recorded one",
        (
            "live/ordinary::another_with_the_same_serial_at_another_port",
            "graph/followed::a_serial_that_was_seen_twice_tells_nobody_apart",
            "engine/followers::a_serial_number_that_two_devices_had_at_once_counts_for_nothing_from_then_on",
            "graph/followed::one_that_was_beside_it_is_not_taken_at_its_port",
        ),
        "serial number",
    ),
    Promise(
        "Where nothing tells which of two equal devices has come back, a notice and a mark at the frame say so",
        (
            "graph/followed::where_one_like_it_has_left_its_port_there_is_a_doubt",
            "graph/followed::two_that_may_have_changed_places_are_doubted",
            "engine/life::a_doubt_whose_audio_it_is_is_told_and_marked_at_its_first_frame",
        ),
    ),
    Promise(
        "Of two ports of one name none is linked in another's place",
        (
            "graph/channels::of_several_that_could_be_it_none_is_taken",
            "engine/followers::another_port_of_the_same_name_leaves_the_links_as_they_are",
            "engine/followers::of_two_ports_of_one_name_the_other_is_never_linked",
        ),
    ),
    Promise(
        "Channels in another order are not swapped",
        (
            "live/ordinary::channels_in_another_order_are_not_swapped",
            "graph/channels::where_names_differ_none_is_taken",
            "graph/channels::what_is_not_there_or_named_twice_is_refused",
        ),
        "another order",
    ),
    Promise(
        "A device in another shape or at another rate is waited out",
        (
            "live/ordinary::a_device_that_changes_its_shape_for_a_while_is_waited_for",
            "live/ordinary::with_roll_on_format_change_it_goes_on_in_a_new_take",
            "live/graph::a_rate_change_is_waited_out",
        ),
        "another shape",
    ),
    Promise(
        "A source that stalls is told while it does",
        (
            "live/ordinary::a_source_that_hangs_is_told_while_it_does",
            "live/ordinary::a_driver_that_stalls_is_told_while_it_does",
        ),
        "hangs for over a second",
    ),
    Promise(
        "A start may wait for PipeWire, and one that restarts ends no stream",
        (
            "cli/cli::start_can_wait_for_pipewire",
            "live/restart::chaosd_may_be_there_first",
            "live/restart::streams_go_on_when_pipewire_is_back",
            "engine/life::pipewire_that_goes_while_the_capture_is_made_is_waited_for",
        ),
    ),
    Promise(
        "Channels are chosen, and a stream may have more than 64",
        ("live/ordinary::chosen_channels_alone_are_linked", "live/ordinary::more_channels_than_sixty_four"),
        "channels started and stopped",
    ),
    Promise(
        "A process that writes a slice takes no module from where chaosd was started",
        ("store/slices::the_process_that_writes_a_slice_takes_no_module_from_the_working_folder",),
    ),
    Promise(
        "What others chose can't act on a terminal",
        (
            "cli/cli::what_others_chose_cannot_act_on_the_terminal",
            "live/chaosctl::a_devices_name_cannot_act_on_the_terminal",
            "terms/visible::nothing_that_acts_is_left",
        ),
        "tells of itself",
    ),
    Promise(
        "A recording is its owner's alone, whatever the umask",
        (
            "live/private::a_recording_is_its_owners_alone",
            "live/private::a_group_may_read_where_chaosd_is_told_so",
            "protocol/config::no_umask_widens_what_is_made",
        ),
    ),
    Promise(
        "No path leads out of the store and the allowed folders, nor among what the store is made of",
        (
            "store/places::paths_elsewhere_are_not",
            "store/places::a_folder_swapped_again_and_again_never_leads_outside",
            "live/engine::a_path_is_never_written_over",
        ),
        "names, paths and numbers",
    ),
    Promise(
        "A damaged item of the store costs that item",
        (
            "store/retention::a_recording_whose_keep_makes_no_sense_costs_only_itself",
            "store/retention::a_damaged_pin_keeps_what_can_be_read_of_it_and_stops_nothing",
            "terms/units::what_to_keep_beyond_reason",
            "store/irregular::of_a_journal",
            "store/irregular::of_what_a_dead_daemon_left",
            "read/reader::what_is_no_file_in_place_of_a_chunk_is_told",
        ),
    ),
    Promise(
        "Over the network only who has an authorized key gets anything",
        (
            "doors/curve::a_key_that_is_not_authorized_gets_nothing",
            "doors/curve::without_keys_nothing_gets_through",
            "doors/curve::a_removed_key_is_out_at_once",
            "doors/curve::key_files_with_lax_modes_are_refused",
        ),
    ),
    Promise(
        "The session's folder is found without its variable, and each refusal says what is missing",
        (
            "protocol/config::without_the_variable_the_usual_folder_is_found",
            "protocol/config::a_folder_of_somebody_else_is_refused_and_told",
            "protocol/config::a_runtime_folder_that_others_can_read_is_used_nevertheless",
        ),
    ),
    Promise(
        "What a client did wrong is never called an internal error",
        (
            "protocol/wire::whatever_comes_gives_a_request_or_a_helpful_error",
            "protocol/wire::a_path_that_the_locale_cannot_spell_is_refused",
            "live/engine::bad_input_gets_a_stable_code_and_costs_no_frame",
            "cli/locales::chaosd_speaks",
        ),
        "names, paths and numbers",
    ),
    Promise(
        "A node of chaosd's that another program removes is made anew",
        (
            "live/following::a_node_of_ours_that_others_remove_is_made_anew",
            "engine/followers::a_node_that_others_take_away_is_lost_until_there_is_another",
        ),
        "removed by another program",
    ),
    Promise(
        "Who reads frames while they are captured gets those of that place, or is told that they are gone",
        (
            "staging/memory_order::it_holds_in_every_order",
            "staging/memory_order::each_of_its_orders_is_needed",
            "staging/stress::nothing_is_lost_doubled_or_mixed_while_all_three_race",
        ),
    ),
    Promise(
        "A request that two readers could understand in two ways, or that is for a moment that is over, is refused",
        ("protocol/wire::refusals_name_what_was_wrong", "engine/schedule::a_moment_that_is_over_is_refused"),
    ),
)
