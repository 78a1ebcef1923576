# Each example plans.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

run "minimal" {
  command = plan

  module {
    source = "./examples/minimal"
  }

  variables {
    region     = "eu-central-1"
    subnet_ids = ["subnet-0aaaaaaaaaaaaaaa1"]
    supervisor = { url = "https://example.com/runner-supervisor-arm64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
}

run "complete" {
  command = plan

  module {
    source = "./examples/complete"
  }

  variables {
    supervisor_sha256 = {
      arm64  = "0000000000000000000000000000000000000000000000000000000000000000"
      x86_64 = "1111111111111111111111111111111111111111111111111111111111111111"
    }
  }
}
