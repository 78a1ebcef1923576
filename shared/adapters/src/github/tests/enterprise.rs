//! GitHub Enterprise Server: every address has its prefix.

use super::*;

#[tokio::test]
async fn every_call_keeps_the_prefix_of_an_enterprise_server() {
    let wire = Wire::start(|seen| {
        let target = seen.target.strip_prefix("/api/v3")?;
        let link = |rest: &str| next(&format!("{}/api/v3{rest}", origin(seen)));
        Some(match target {
            "/app/installations/7/access_tokens" | "/orgs/octo/installation" => Reply::new(404, "{}"),
            "/users/octo/installation" | "/repos/octo/hello/installation" => Reply::new(200, json!({ "id": 8 })),
            "/orgs/octo/actions/runners?per_page=100" => {
                runners(2, 1..2).header("link", link("/orgs/octo/actions/runners?per_page=100&page=2"))
            }
            "/orgs/octo/actions/runners?per_page=100&page=2" => runners(2, 2..3),
            "/orgs/octo/actions/runners?name=runner-5&per_page=100" => runners(1, 5..6),
            "/repos/octo/hello/actions/runners/generate-jitconfig" => Reply::new(409, "{}"),
            "/orgs/octo/actions/runners/5" if seen.method == "DELETE" => Reply::new(204, ""),
            "/orgs/octo/actions/runners/5" => Reply::new(200, runner(5)),
            "/repos/octo/hello/actions/jobs/21" => Reply::new(301, "").header("location", "/api/v3/moved"),
            "/moved" => Reply::new(200, json!({ "id": 21, "status": "queued" })),
            "/repos/octo/hello/actions/runs?status=in_progress&per_page=100" => {
                runs(2, 1..2).header("link", link("/repositories/1/actions/runs?status=in_progress&page=2"))
            }
            "/repositories/1/actions/runs?status=in_progress&page=2" => runs(2, 2..3),
            "/repos/octo/hello/actions/runs/1/jobs?filter=latest&per_page=100"
            | "/repos/octo/hello/actions/runs/2/jobs?filter=latest&per_page=100" => jobs(1, 1..2),
            "/installation/repositories?per_page=100" => {
                Reply::new(200, json!({ "total_count": 1, "repositories": [{ "full_name": "octo/hello" }] }))
            }
            "/app/hook/deliveries?status=failure&per_page=100" => {
                let page = json!([delivery(1, "2026-11-20T12:00:00Z", 500)]);
                Reply::new(200, page).header("link", link("/app/hook/deliveries?status=failure&cursor=v1_2"))
            }
            "/app/hook/deliveries?status=failure&cursor=v1_2" => Reply::new(200, "[]"),
            "/app/hook/deliveries/1" => Reply::new(200, json!({ "request": { "payload": {} } })),
            _ => return None,
        })
    })
    .await;
    let adapters = wire.adapters_with(&format!("{}/api/v3", wire.url));
    let access = organization();
    assert_eq!(adapters.runners(&access).await.expect("two pages").len(), 2);
    adapters.runner(&access, RunnerId(5)).await.expect("a runner").expect("found");
    adapters.runner_named(&access, &RunnerName::new("runner-5")).await.expect("a list").expect("found");
    let taken = adapters.generate_jit_config(&repository(), &request()).await.expect("an answer");
    assert_eq!(taken, Registered::NameTaken);
    adapters.deregister(warrant(RunnerId(5), access.clone()).await).await.expect("deleted");
    adapters.job(&hello(), None, JobId(21)).await.expect("a job");
    assert_eq!(adapters.jobs_in_progress(&hello(), None).await.expect("two pages of runs").len(), 2);
    adapters.repositories(&access).await.expect("one page");
    let log = adapters.failed_deliveries_since(Timestamp(0), None).await.expect("a page");
    adapters.failed_deliveries_since(Timestamp(0), log.next.as_ref()).await.expect("another page");
    adapters.delivery_payload(1).await.expect("a payload");
    let astray: Vec<String> = wire.calls().into_iter().filter(|call| !call.contains(" /api/v3/")).collect();
    assert_eq!(astray, Vec::<String>::new());
}
