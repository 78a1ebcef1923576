# One fleet of small Graviton instances on spot, for every repository that the App is installed on.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

module "runner_scaler" {
  source = "../.."

  environment     = "prod"
  subnet_ids      = var.subnet_ids
  supervisor      = { arm64 = var.supervisor }
  packages_folder = var.packages_folder

  fleets = [{
    name             = "linux-arm64"
    labels           = ["self-hosted", "linux", "arm64"]
    runner_count_max = 10
    instance_types   = ["m7g.large", "m6g.large", "c7g.large"]
  }]
}
