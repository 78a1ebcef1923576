//! Protocols with one rule broken each, to show that the rule is needed and that something sees when it is not kept.
//!
//! The list is that of the simulation; where a rule is kept there is a call of its mutant's predicate, which is constant
//! `false` in any build without the cargo feature `mutants`. What catches which is in `tests/mutants/`.

/// Declares the mutants: the rule each breaks, its variant, its name, and the predicate that asks for it.
macro_rules! mutants {
    ($(#[doc = $rule:literal] $variant:ident = $name:literal, $predicate:ident;)+) => {
        /// A protocol with one rule broken. Only a build with the cargo feature `mutants` has any.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Mutant {
            /// All rules hold.
            #[default]
            None,
            $(#[cfg(feature = "mutants")] #[doc = $rule] $variant,)+
        }

        impl Mutant {
            /// All of them, in the order of the list.
            #[cfg(feature = "mutants")]
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The names that a build with the feature knows, and that every other refuses.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The mutant of that name, if this build has it.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    "" => Some(Self::None),
                    $(#[cfg(feature = "mutants")] $name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its name; empty where all rules hold.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    Self::None => "",
                    $(#[cfg(feature = "mutants")] Self::$variant => $name,)+
                }
            }

            /// What it does that must not be done.
            #[cfg(feature = "mutants")]
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self {
                    Self::None => "All rules hold.",
                    $(Self::$variant => $rule.trim_ascii(),)+
                }
            }

            $(
                #[doc = concat!("Whether the rule of `", $name, "` is broken.")]
                #[must_use]
                pub const fn $predicate(self) -> bool {
                    match self {
                        Self::None => false,
                        #[cfg(feature = "mutants")]
                        other => matches!(other, Self::$variant),
                    }
                }
            )+
        }
    };
}

mutants! {
    /// What was deregistered is ended without looking again.
    NoRecheck = "no-recheck", leaves_out_recheck;
    /// The instance's own word does not count before the DELETE.
    M01 = "m01", ignores_the_instance_before_delete;
    /// The instance's own word does not count before the terminate.
    M02 = "m02", ignores_the_instance_before_terminate;
    /// What would be asked to drain is ended.
    M03 = "m03", ends_instead_of_draining;
    /// A 404 after our DELETE means that no job runs.
    M04 = "m04", takes_404_after_delete_for_idle;
    /// One reading of `busy: false` is enough.
    M05 = "m05", believes_one_idle_reading;
    /// A runner that answers 404 is dead.
    M06 = "m06", takes_404_for_dead;
    /// A runner that the list does not show is dead at once.
    M07 = "m07", takes_unlisted_for_dead;
    /// A list that fails is an empty one.
    M08 = "m08", takes_a_failed_list_for_empty;
    /// A runner that cannot be read is dead.
    M09 = "m09", takes_an_error_for_dead;
    /// A runner that is offline and busy is dead.
    M10 = "m10", takes_offline_and_busy_for_dead;
    /// A 403 means that the runner is registered no more.
    M11 = "m11", takes_403_for_deregistered;
    /// A DELETE that was refused or failed is followed by the terminate all the same.
    M12 = "m12", ignores_failed_deletes;
    /// An instance that EC2 does not find is gone, and its record closed.
    M13 = "m13", takes_not_found_for_gone;
    /// Messages are acknowledged before their launch, whatever becomes of it.
    M14 = "m14", acknowledges_before_launching;
    /// A job of which GitHub cannot tell whether it waits does not.
    M15 = "m15", takes_an_error_for_not_queued;
    /// Each call draws a client token of its own.
    M16 = "m16", draws_client_tokens;
    /// The second launch for a job asks under the token of the first.
    M17 = "m17", never_renews_tokens;
    /// A registration whose name is taken is deleted.
    M18 = "m18", deletes_taken_names;
    /// A configuration is handed over of which the ledger knows nothing before.
    M19 = "m19", hands_over_unrecorded;
    /// As many messages come back as failed, counted from the first of all.
    M20 = "m20", counts_failures_from_all;
    /// A launch that EC2 refuses for good takes its jobs with it.
    M21 = "m21", drops_jobs_that_ec2_refuses;
    /// One message that cannot be read fails its whole batch.
    M22 = "m22", fails_batches_whole;
    /// Nobody looks for jobs that wait.
    M23 = "m23", never_reconciles;
    /// A job is served while an instance lives that was launched for it.
    M24 = "m24", lets_instances_claim_jobs;
    /// The end of a job is the end of the demand that launched its instance.
    M25 = "m25", lets_completions_take_demand;
    /// A runner that is registered may come online however late.
    M26 = "m26", waits_for_runners_for_ever;
    /// Instances are listed first and registrations after, and those that match none are deleted.
    M27 = "m27", lists_instances_before_registrations;
    /// Registrations without an instance are left.
    M28 = "m28", leaves_stray_registrations;
    /// The first item that fails ends the pass.
    M29 = "m29", stops_at_the_first_error;
    /// A claim on a job never lapses.
    M30 = "m30", claims_for_ever;
    /// What was to be written is taken for written although the write failed.
    M31 = "m31", runs_ahead_of_failed_writes;
    /// What another pass began is taken for finished.
    M32 = "m32", takes_begun_for_finished;
    /// A deletion that finds nothing is nobody's to finish any more.
    M33 = "m33", swallows_not_found;
    /// A pass goes on until it is killed.
    M35 = "m35", ignores_deadlines;
    /// A message is hidden for no longer than its function may run.
    M36 = "m36", hides_messages_too_briefly;
    /// A time that lies ahead has long passed.
    M37 = "m37", believes_skewed_clocks;
    /// A signature is compared as far as it goes.
    M38a = "m38a", compares_what_there_is;
    /// What bears no signature needs none.
    M38b = "m38b", lets_in_without_a_signature;
    /// An empty secret is a secret.
    M38c = "m38c", takes_empty_secrets;
    /// SHA-1 is as good as SHA-256.
    M38d = "m38d", takes_sha1;
    /// A body is parsed before its signature is checked.
    M38e = "m38e", parses_before_verifying;
    /// The signature that would have been right is logged.
    M38f = "m38f", logs_the_right_signature;
    /// A delivery is remembered before its message is sent.
    M39 = "m39", remembers_before_sending;
    /// Only the same delivery is the same: a job's next one is launched for again.
    M40 = "m40", knows_deliveries_by_id_only;
    /// Shown idle by the runner's own reading, deregistered, ended, all in one breath.
    NaiveUpstream = "naive-upstream", asks_only_before_delete;
    /// The same, and the runner is read again after the DELETE: a 404 is taken for idle.
    NaiveRecheck = "naive-recheck", asks_github_again_after_delete;
    /// Shown idle twice, ten minutes apart, then deregistered and ended in one breath.
    NaiveConfirmation = "naive-confirmation", asks_twice_before_delete;
}

impl Mutant {
    /// Whether GitHub's flag alone decides about idle runners.
    #[must_use]
    pub const fn is_naive(self) -> bool {
        self.asks_only_before_delete() || self.asks_github_again_after_delete() || self.asks_twice_before_delete()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_every_mutant_or_none() {
        assert_eq!(Mutant::named(""), Some(Mutant::None));
        assert_eq!((Mutant::named("m34"), Mutant::named("m99")), (None, None), "m34 waits for its listener");
        for name in Mutant::NAMES {
            let known = Mutant::named(name);
            assert_eq!(known.is_some(), cfg!(feature = "mutants"), "{name}");
            assert!(known.is_none_or(|mutant| mutant.name() == *name && mutant != Mutant::None), "{name}");
        }
        let none = Mutant::None;
        assert!(!none.leaves_out_recheck() && !none.takes_sha1() && !none.asks_only_before_delete());
    }

    /// Where the feature is not built in there is nothing to carry.
    #[test]
    fn a_build_without_mutants_carries_none() {
        assert_eq!(size_of::<Mutant>() == 0, !cfg!(feature = "mutants"));
    }
}
