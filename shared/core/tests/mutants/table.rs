//! The table: every mutant of the simulation's list, the layer and invariant that the list names, and what catches it
//! here. T1 decides or parses without a world; T2 is a handler against the stateful double; T3 is the simulation.

/// One mutant.
pub(crate) struct Row {
    /// Its name.
    pub(crate) mutant: &'static str,
    /// By which layer and invariant the list wants it caught.
    pub(crate) list: &'static str,
    /// What sees it.
    pub(crate) seen: Seen,
}

impl Row {
    /// What catches it here.
    pub(crate) fn checks(&self) -> std::slice::Iter<'static, Check> {
        match self.seen {
            Seen::Here(checks) => checks.iter(),
            Seen::BySimulation(_) | Seen::Pending => [].iter(),
        }
    }
}

/// What sees that a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Each of these tests.
    Here(&'static [Check]),
    /// The simulation alone; where the rule is kept, so that no test of this crate can see it.
    BySimulation(&'static str),
    /// There is nothing to break yet.
    Pending,
}

/// One test that must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its layer.
    pub(crate) layer: &'static str,
    /// Where it is.
    pub(crate) binary: Binary,
    /// Its name.
    pub(crate) test: &'static str,
    /// What it says when it fails, so that it fails for this and for nothing else.
    pub(crate) says: &'static str,
}

impl Check {
    /// The test itself.
    pub(crate) fn id(&self) -> (Binary, &'static str) {
        (self.binary, self.test)
    }
}

/// Tests that are built together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Binary {
    /// The unit tests.
    Core,
    /// `tests/verdict_lattice`
    Lattice,
}

impl Binary {
    pub(crate) const ALL: [Self; 2] = [Self::Core, Self::Lattice];

    /// As cargo calls it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Core => "runner_scaler_core",
            Self::Lattice => "verdict_lattice",
        }
    }
}

const fn in_core(layer: &'static str, test: &'static str, says: &'static str) -> Check {
    Check { layer, binary: Binary::Core, test, says }
}

const fn in_lattice(test: &'static str, says: &'static str) -> Check {
    Check { layer: "T1", binary: Binary::Lattice, test, says }
}

const fn row(mutant: &'static str, list: &'static str, checks: &'static [Check]) -> Row {
    Row { mutant, list, seen: Seen::Here(checks) }
}

/// Every combination of evidence.
const WHOLE_LATTICE: &str = "lattice::every_combination_is_concluded_upon_as_promised";

/// What the lattice says where an act rests on too little.
const TOO_LITTLE: &str = "!shows_life(evidence) && is_settled(evidence)";

/// A witness speaks while GitHub's flag lies.
const LYING_FLAG: &[Check] = &[in_core(
    "T2",
    "removal::tests::incidents::toctou::toctou_busy_false_while_a_job_runs_is_outweighed_by_every_other_witness",
    "while GitHub shows the runner as idle",
)];

/// In the order of the list.
pub(crate) const ROWS: &[Row] = &[
    row(
        "no-recheck",
        "T1; T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, TOO_LITTLE),
            in_core(
                "T2",
                "removal::tests::incidents::toctou::toctou_a_delete_that_succeeds_although_a_job_runs_is_not_followed_by_a_terminate",
                "late event",
            ),
        ],
    ),
    row(
        "m01",
        "T3: S2",
        &[
            in_lattice("a_living_supervisor_is_asked_to_drain_and_github_is_not_asked_at_all", "right: Drain"),
            in_core("T2", "removal::tests::a_living_supervisor_is_asked_and_never_overruled", "left: 1"),
            in_core(
                "T2",
                "removal::tests::guards::life::the_instances_own_word_keeps_and_its_silence_removes",
                "a young vital sign, BeforeDelete",
            ),
        ],
    ),
    row(
        "m02",
        "T3: S1",
        &[
            in_lattice("a_clock_that_runs_ahead_makes_nothing_old", "1 s ahead"),
            in_core(
                "T2",
                "removal::tests::guards::life::the_instances_own_word_keeps_and_its_silence_removes",
                "a young vital sign, BeforeTerminate",
            ),
        ],
    ),
    row(
        "m03",
        "T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, TOO_LITTLE),
            in_core("T2", "removal::tests::a_living_supervisor_is_asked_and_never_overruled", "renewed"),
        ],
    ),
    row(
        "m04",
        "T1; T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, TOO_LITTLE),
            in_core(
                "T2",
                "removal::tests::incidents::toctou::toctou_a_delete_that_succeeds_although_a_job_runs_is_not_followed_by_a_terminate",
                "its event never came",
            ),
        ],
    ),
    row(
        "m05",
        "T3: S1",
        &[
            in_lattice("each_row_concludes_what_the_table_says", "21: idle for the first time"),
            in_core(
                "T2",
                "removal::tests::guards::graces::a_grace_keeps_until_the_second_in_which_it_is_over",
                "idle_window: a second before",
            ),
        ],
    ),
    row(
        "m06",
        "T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, TOO_LITTLE),
            in_core(
                "T2",
                "removal::tests::guards::readings::an_absence_or_an_offline_runner_counts_after_three_sweeps_and_half_an_hour",
                "row 16, every 1 min",
            ),
        ],
    ),
    row(
        "m07",
        "T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, TOO_LITTLE),
            in_core(
                "T2",
                "removal::tests::guards::readings::an_absence_or_an_offline_runner_counts_after_three_sweeps_and_half_an_hour",
                "row 16, every 1 min",
            ),
        ],
    ),
    row(
        "m08",
        "T3: S1",
        &[in_core(
            "T2",
            "removal::tests::incidents::github_api::a_list_whose_second_page_fails_ends_nobody",
            "a list in part is no list",
        )],
    ),
    row(
        "m09",
        "T1 (masked in T3)",
        &[
            in_lattice(WHOLE_LATTICE, "Idleness without Registration"),
            in_core(
                "T2",
                "removal::tests::guards::unread::what_cannot_be_asked_keeps_and_its_answer_removes",
                "the list is cut, BeforeDelete",
            ),
        ],
    ),
    row(
        "m10",
        "T1; T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, TOO_LITTLE),
            in_core(
                "T2",
                "removal::tests::incidents::github_api::offline_and_busy_is_kept_until_the_jobs_api_says_completed",
                "Reason::JobRunning",
            ),
        ],
    ),
    row(
        "m11",
        "T1; T3: S1",
        &[
            in_lattice(WHOLE_LATTICE, "Idleness without Registration"),
            in_core(
                "T2",
                "removal::tests::incidents::github_api::a_403_on_deregister_takes_the_intent_back_and_ends_nothing",
                "deregistered: {Idle: 1}",
            ),
        ],
    ),
    row(
        "m12",
        "T3: S1",
        &[in_core(
            "T2",
            "removal::tests::incidents::garm_699::garm_699_404_on_a_delete_is_no_success_and_the_runner_is_deregistered_later",
            "nothing rests on a DELETE that was not found",
        )],
    ),
    row(
        "m13",
        "T2; T3: L2",
        &[in_core(
            "T2",
            "removal::tests::incidents::garm_699::garm_699_not_found_from_ec2_closes_nothing_and_is_tried_again",
            "visible",
        )],
    ),
    row(
        "m14",
        "T3: S3",
        &[in_core("T2", "scale_up::tests::a_failing_call_has_the_outcome_of_its_class", "left: (\"Launched\", 0)")],
    ),
    row(
        "m15",
        "T3: S3",
        &[in_core("T2", "scale_up::tests::a_failing_call_has_the_outcome_of_its_class", "\"NotQueued\", 0")],
    ),
    row(
        "m16",
        "T3: S4",
        &[in_core(
            "T2",
            "scale_up::tests::a_batch_killed_or_failed_at_any_call_ends_well_when_its_messages_return",
            "a launch without a record",
        )],
    ),
    row(
        "m17",
        "T3: L1",
        &[in_core(
            "T2",
            "scale_up::tests::a_message_that_comes_again_launches_nothing_while_its_instance_may_take_the_job",
            "after 16 min",
        )],
    ),
    row(
        "m18",
        "T3: S2",
        &[in_core(
            "T2",
            "scale_up::tests::a_name_that_is_taken_is_never_deleted_and_its_job_gets_another_instance_later",
            "its name is free now",
        )],
    ),
    row(
        "m19",
        "T3: L3",
        &[in_core(
            "T2",
            "scale_up::tests::a_batch_killed_or_failed_at_any_call_ends_well_when_its_messages_return",
            "a registration without an intent",
        )],
    ),
    row("m20", "T3: S3", &[in_core("T2", "scale_up::tests::every_message_has_its_own_outcome", "counted")]),
    row(
        "m21",
        "T3: S3, L1",
        &[in_core(
            "T2",
            "scale_up::tests::a_failing_call_has_the_outcome_of_its_class",
            "Compute::create_fleet Misconfigured",
        )],
    ),
    row(
        "m22",
        "T3: L5",
        &[in_core("T2", "scale_up::tests::every_message_has_its_own_outcome", "another message of its batch")],
    ),
    row(
        "m23",
        "T3: L1",
        &[in_core(
            "T2",
            "demand::tests::a_job_that_nobody_told_us_of_is_found_sent_and_launched_for_once",
            "no fleet takes the other",
        )],
    ),
    row(
        "m24",
        "T3: L1",
        &[in_core(
            "T2",
            "demand::tests::a_job_whose_runner_another_job_took_gets_another_runner_although_nobody_told_us",
            "left: (1, 0)",
        )],
    ),
    row(
        "m25",
        "T3: L1",
        &[in_core(
            "T2",
            "demand::tests::taken::the_end_of_the_job_that_took_its_runner_is_not_the_end_of_a_job",
            "job 1 ended with job 2",
        )],
    ),
    row(
        "m26",
        "T3: L2, L3",
        &[
            in_lattice("each_row_concludes_what_the_table_says", "18: registered and never connected"),
            in_core(
                "T2",
                "removal::tests::incidents::tuist::tuist_a_runner_that_never_started_is_reaped",
                "registered and never connected: not closed",
            ),
        ],
    ),
    row(
        "m27",
        "T3: S2",
        &[in_core(
            "T2",
            "removal::tests::leftovers::a_registration_whose_instance_no_listing_shows_yet_is_left",
            "deregistered after",
        )],
    ),
    row(
        "m28",
        "T3: L3",
        &[in_core(
            "T2",
            "removal::tests::crash::a_registration_left_in_a_scope_without_instances_is_taken_away",
            "no end",
        )],
    ),
    row(
        "m29",
        "T3: L7",
        &[in_core(
            "T2",
            "removal::tests::guards::bounds::one_items_failure_is_its_own_and_the_pass_fails_visibly",
            "JobCompleted: 5",
        )],
    ),
    row(
        "m30",
        "T2; T3: L8",
        &[in_core(
            "T2",
            "scale_up::tests::a_batch_killed_or_failed_at_any_call_ends_well_when_its_messages_return",
            "lease_until: Timestamp(9223372036854775807)",
        )],
    ),
    row(
        "m31",
        "T2; T3: S10",
        &[in_core(
            "T2",
            "scale_up::tests::at_once::a_message_that_comes_twice_at_once_launches_one_instance_in_whatever_order",
            "left: 2",
        )],
    ),
    row(
        "m32",
        "T2; T3: L2, L3",
        &[in_core(
            "T2",
            "removal::tests::incidents::semaphore_3964::semaphore_3964_whoever_meets_a_half_finished_removal_finishes_it",
            "intent to terminate stored and never carried out",
        )],
    ),
    row(
        "m33",
        "T2; T3: L2",
        &[in_core(
            "T2",
            "removal::tests::incidents::garm_699::garm_699_not_found_from_ec2_closes_nothing_and_is_tried_again",
            "visible",
        )],
    ),
    Row { mutant: "m34", list: "T3: L1", seen: Seen::Pending },
    row(
        "m35",
        "T3: L7, S4",
        &[
            in_core(
                "T2",
                "removal::tests::deadline::whatever_hangs_is_dropped_and_the_pass_ends_by_itself_and_remembers_where",
                "before its deadline",
            ),
            in_core("T2", "scale_up::tests::nothing_is_begun_near_the_deadline", "\"m1\", Launched"),
        ],
    ),
    Row {
        mutant: "m36",
        list: "T3: S4",
        seen: Seen::BySimulation("the queue's own setting: infra/modules/queue refuses less than six times"),
    },
    row(
        "m37",
        "T1; T3: L1, S1",
        &[
            in_lattice("a_clock_that_runs_ahead_makes_nothing_old", "1 s ahead"),
            in_core(
                "T2",
                "removal::tests::proofs::a_vital_sign_keeps_while_it_is_young_or_while_a_worker_ran_and_no_other_does_anything",
                "a clock that runs ahead",
            ),
        ],
    ),
    row(
        "m38a",
        "T1",
        &[in_core(
            "T1",
            "webhook::signature::tests::only_one_strict_signature_under_an_active_secret_passes",
            "the prefix alone",
        )],
    ),
    row(
        "m38b",
        "T1",
        &[
            in_core(
                "T1",
                "webhook::signature::tests::only_one_strict_signature_under_an_active_secret_passes",
                "no header",
            ),
            in_core(
                "T2",
                "webhook::handle::tests::each_request_gets_its_status_and_only_the_good_ones_an_effect",
                "no signature",
            ),
        ],
    ),
    row(
        "m38c",
        "T1",
        &[in_core(
            "T1",
            "webhook::signature::tests::a_secret_that_could_be_guessed_is_refused_when_it_is_read",
            "empty: WebhookSecrets",
        )],
    ),
    row(
        "m38d",
        "T1",
        &[in_core(
            "T1",
            "webhook::signature::tests::only_one_strict_signature_under_an_active_secret_passes",
            "the right digest under sha1=",
        )],
    ),
    row("m38e", "T1", &[in_core("T1", "webhook::handle::tests::one_changed_byte_anywhere_is_refused", "left: 400")]),
    row(
        "m38f",
        "T1",
        &[in_core(
            "T1",
            "webhook::log_tests::a_refusal_tells_the_log_neither_what_was_sent_nor_what_would_have_been_right",
            "the log tells the right signature",
        )],
    ),
    row(
        "m39",
        "T2; T3: L1",
        &[in_core(
            "T2",
            "webhook::handle::tests::a_delivery_killed_anywhere_is_whole_after_its_redelivery",
            "queued, (2, KillAfter): lost",
        )],
    ),
    row(
        "m40",
        "T1: S5",
        &[in_core(
            "T2",
            "scale_up::tests::a_message_that_comes_again_launches_nothing_while_its_instance_may_take_the_job",
            "at once",
        )],
    ),
    row("naive-upstream", "measured in T3", LYING_FLAG),
    row("naive-recheck", "measured in T3", LYING_FLAG),
    row("naive-confirmation", "measured in T3", LYING_FLAG),
];
