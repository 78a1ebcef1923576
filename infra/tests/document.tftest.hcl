# The configuration document of a deployment that sets what there is to set. tests/documents.py compares it with
# tests/configuration.json, and a test of the core crate reads that file as the functions would.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment  = "prod"
  subnet_ids   = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"]
  repositories = ["acme/*", "acme-labs/*"]
  mode         = "observe"
  ledger_epoch = "2026-11-20T14:30:00Z"
  supervisor = {
    arm64  = { url = "https://example.com/runner-supervisor-arm64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
    x86_64 = { url = "https://example.com/runner-supervisor-x86_64", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
  }
  fleets = [
    {
      name             = "small"
      labels           = ["self-hosted", "linux", "arm64"]
      runner_count_max = 50
      instance_types   = ["m7g.large", "c7g.large"]
    },
    {
      name               = "large"
      labels             = ["self-hosted", "linux", "x64"]
      runner_count_max   = 10
      instance_types     = ["m7i.4xlarge"]
      market             = "on-demand"
      matching           = "subset"
      runner_group_id    = 7
      runner_name_prefix = "large-"
      subnet_ids         = ["subnet-0bbbbbbbbbbbbbbb1"]
      eviction           = "newest_first"
      idle = [
        { cron = "* 8-17 * * 1-5", time_zone = "Europe/Berlin", count = 5 },
        { cron = "* * * * *", count = 1 },
      ]
      timers = {
        idle_window_seconds     = 240
        quarantine_seconds      = 360
        completed_grace_seconds = 1200
        boot_grace_seconds      = 600
        gone_grace_seconds      = 2400
        idle_maximum_seconds    = 7200
        drain_answer_seconds    = 120
        minimum_running_seconds = 0
        removal_lease_seconds   = 180
      }
    },
    {
      name             = "by-repository"
      labels           = ["self-hosted", "deploy"]
      registration     = "repository"
      runner_count_max = 1
      instance_types   = ["t4g.medium"]
    },
  ]
}

run "document" {
  command = plan
}
