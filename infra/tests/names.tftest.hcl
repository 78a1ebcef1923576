# The longest names that the validations let pass. The provider refuses some that are too long, at a plan as well;
# tests/names.py holds every name of this plan against AWS's limit for its kind.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment = "a-deployment-of-32-characters-32"
  subnet_ids  = ["subnet-0aaaaaaaaaaaaaaa1"]
  supervisor = {
    arm64 = { url = "https://example.com/runner-supervisor-arm64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  fleets = [{
    name             = "a-fleet-of-64-characters-64-64-64-64-64-64-64-64-64-64-64-64-64-"
    labels           = ["self-hosted"]
    runner_count_max = 2
    instance_types   = ["m7g.large"]
  }]
}

run "names" {
  command = plan

  assert {
    condition     = length(var.environment) == 32 && length(var.fleets[0].name) == 64
    error_message = "the names are the longest that are let pass"
  }
}
