//! Jobs of runs, and the repositories of an installation.

use super::*;

const RUNS: &str = "/repos/octo/hello/actions/runs";

#[tokio::test]
async fn the_jobs_in_progress_are_those_of_every_run_to_the_last_page() {
    let wire = Wire::start(|seen| {
        let link = |rest: &str| next(&format!("{}{rest}", origin(seen)));
        let target = seen.target.strip_prefix(RUNS).unwrap_or(&seen.target);
        Some(match target {
            "?status=in_progress&per_page=100" => runs(3, 1..3).header("link", link("/more-runs")),
            "/more-runs" => runs(3, 3..4),
            "/1/jobs?filter=latest&per_page=100" => jobs(3, 10..12).header("link", link("/more-jobs")),
            "/more-jobs" => jobs(3, 12..13),
            "/2/jobs?filter=latest&per_page=100" => jobs(0, 0..0),
            "/3/jobs?filter=latest&per_page=100" => jobs(1, 30..31),
            _ => return None,
        })
    })
    .await;
    let read = wire.adapters().jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect("all pages");
    let read: Vec<_> = read.iter().map(|job| (job.id.0, job.runner_id)).collect();
    assert_eq!(read, [10, 11, 12, 30].map(|id| (id, Some(RunnerId(id + 1_000)))));
    // The two lists of two pages twice, those of one page once.
    assert_eq!(wire.calls().len(), 10, "{:?}", wire.calls());
}

#[tokio::test]
async fn a_job_of_a_run_that_waits_is_found_and_each_run_is_read_once() {
    let wire = Wire::start(|seen| {
        let of_run = |id: u64| seen.target == format!("{RUNS}/{id}/jobs?filter=latest&per_page=100");
        Some(match seen.target.strip_prefix(&format!("{RUNS}?status=")).and_then(|rest| rest.split('&').next()) {
            // One of them began while the lists were read.
            Some("in_progress" | "queued") => runs(1, 1..2),
            // One approval is missing, the job beside it runs.
            Some("waiting") => runs(1, 2..3),
            Some("pending" | "requested") => runs(0, 0..0),
            None if of_run(1) => jobs(1, 10..11),
            None if of_run(2) => jobs(1, 20..21),
            Some(_) | None => return None,
        })
    })
    .await;
    let adapters = wire.adapters();
    let ids = |read: Vec<JobReading>| read.iter().map(|job| job.id.0).collect::<Vec<_>>();
    let open = adapters.jobs_of_open_runs(&hello(), Some(InstallationId(7))).await.expect("six lists");
    assert_eq!(ids(open), [10, 20]);
    assert_eq!(wire.calls().len(), 8, "six lists and two runs: {:?}", wire.calls());
    let in_progress = adapters.jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect("one list");
    assert_eq!((ids(in_progress), wire.calls().len()), (vec![10], 10));
}

#[tokio::test]
async fn a_run_that_slips_between_two_pages_is_found_by_reading_again() {
    // While page one is read there are 1 and 2 on it and 3 on page two; then 1 ends and 4 comes, so that 3 is on page one.
    let lists = AtomicUsize::new(0);
    let wire = Wire::start(move |seen| {
        let link = next(&format!("{}/more-runs", origin(seen)));
        Some(match seen.target.as_str() {
            "/repos/octo/hello/actions/runs?status=in_progress&per_page=100" => {
                match lists.fetch_add(1, Ordering::SeqCst) {
                    0 => runs(3, 1..3).header("link", link),
                    _ => runs(3, 2..4).header("link", link),
                }
            }
            "/more-runs" => runs(3, 4..5),
            target if target.starts_with(RUNS) => jobs(0, 0..0),
            _ => return None,
        })
    })
    .await;
    wire.adapters().jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect("three readings");
    let calls = wire.calls();
    assert!(calls.iter().any(|call| call.contains("/runs/3/jobs")), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.contains("more-runs")).count(), 3, "{calls:?}");
}

#[tokio::test]
async fn a_list_that_never_rests_is_an_error() {
    for (case, churn) in [("another run each time", true), ("it shrinks each time", false)] {
        let reading = AtomicUsize::new(0);
        let wire = Wire::start(move |seen| {
            let link = next(&format!("{}/two", origin(seen)));
            let repositories = |total: usize, names: Vec<String>| {
                let bodies: Vec<Value> = names.iter().map(|name| json!({ "full_name": name })).collect();
                Reply::new(200, json!({ "total_count": total, "repositories": bodies }))
            };
            Some(match seen.target.as_str() {
                "/installation/repositories?per_page=100" => {
                    let nth = if churn { reading.fetch_add(1, Ordering::SeqCst) } else { 0 };
                    repositories(if churn { 2 } else { 3 }, vec![format!("octo/r{nth}")]).header("link", link)
                }
                "/two" => repositories(2, vec!["octo/last".to_owned()]),
                _ => return None,
            })
        })
        .await;
        let refused = wire.adapters().repositories(&organization()).await.expect_err(case);
        assert_eq!((refused.class(), wire.calls().len()), (Class::Transient, 8), "{case}: {refused}");
    }
}

#[tokio::test]
async fn jobs_in_progress_in_part_are_none() {
    let more_runs = |wire: &str| next(&format!("{wire}/more-runs"));
    for (case, first, second, of_run, expected) in [
        ("a page of runs fails", runs(2, 1..2), Reply::new(502, ""), jobs(0, 0..0), Class::Transient),
        ("a page of jobs fails", runs(2, 1..2), runs(2, 2..3), Reply::new(500, ""), Class::Transient),
        ("a run is gone meanwhile", runs(2, 1..2), runs(2, 2..3), Reply::new(404, ""), Class::Absent),
        ("fewer runs than GitHub counted", runs(5, 1..2), runs(5, 2..3), jobs(0, 0..0), Class::Transient),
        ("a run ended between the pages", runs(3, 1..3), runs(2, 4..4), jobs(0, 0..0), Class::Transient),
        ("fewer jobs than GitHub counted", runs(2, 1..2), runs(2, 2..3), jobs(3, 1..3), Class::Transient),
    ] {
        let wire = Wire::start(move |seen| {
            Some(match seen.target.as_str() {
                "/more-runs" => second.clone(),
                target if target.starts_with("/repos/octo/hello/actions/runs?") => {
                    first.clone().header("link", more_runs(&origin(seen)))
                }
                target if target.starts_with(RUNS) => of_run.clone(),
                _ => return None,
            })
        })
        .await;
        let refused = wire.adapters().jobs_in_progress(&hello(), Some(InstallationId(7))).await.expect_err(case);
        assert_eq!(refused.class(), expected, "{case}: {refused}");
    }
}

#[tokio::test]
async fn the_repositories_of_an_installation_are_read_to_the_last_page_with_its_token() {
    let page = |names: &[&str]| {
        let bodies: Vec<Value> = names.iter().map(|name| json!({ "id": 1, "full_name": name })).collect();
        Reply::new(200, json!({ "total_count": 3, "repository_selection": "selected", "repositories": bodies }))
    };
    let wire = Wire::start(move |seen| {
        Some(match seen.target.as_str() {
            "/installation/repositories?per_page=100" => {
                page(&["octo/a", "octo/b.c"]).header("link", next(&format!("{}/two", origin(seen))))
            }
            "/two" => page(&["octo/d"]),
            _ => return None,
        })
    })
    .await;
    let read = wire.adapters().repositories(&organization()).await.expect("two pages");
    let names: Vec<String> = read.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["octo/a", "octo/b.c", "octo/d"]);
    let seen = wire.seen();
    assert_eq!(
        seen.last().expect("requests").header("authorization"),
        "Bearer ghs_of/app/installations/7/access_tokens"
    );

    let wire = Wire::start(move |seen| seen.target.starts_with("/installation/").then(|| page(&["a", "b", "c"]))).await;
    let refused = wire.adapters().repositories(&organization()).await.expect_err("no full names");
    assert_eq!(refused.class(), Class::Transient);
}
