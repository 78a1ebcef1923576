# Renders the policies that tests/policies evaluates: `terraform test -json -verbose` shows the plan.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment = "prod"
  subnet_ids  = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"]
  supervisor = {
    arm64 = { url = "https://example.com/runner-supervisor-arm64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  fleets = [{
    name             = "linux-arm64"
    labels           = ["self-hosted", "linux", "arm64"]
    runner_count_max = 10
    instance_types   = ["m7g.large", "m6g.large"]
  }]
}

run "policies" {
  command = plan
}

run "policies_with_key_network_and_logs" {
  command = plan

  variables {
    fleets = [{
      name                = "linux-arm64"
      labels              = ["self-hosted", "linux", "arm64"]
      runner_count_max    = 10
      instance_types      = ["m7g.large", "m6g.large"]
      supervisor_settings = { LOG_GROUP = "/runners/prod" }
    }]
    kms_key_arn      = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    function_network = { subnet_ids = ["subnet-0bbbbbbbbbbbbbbb1"], security_group_ids = ["sg-0fedcba9876543210"] }
  }
}
