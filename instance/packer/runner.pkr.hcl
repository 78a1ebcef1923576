# An image with supervisor and runner in it: an instance of it downloads nothing and takes its first job some ten seconds
# sooner. From the repository's root:
#
#   packer init instance/packer
#   packer build -only='*.amazon-linux-arm64' -var-file=image.pkrvars.hcl instance/packer
#
# What is pinned here must be what the Terraform module pins: an instance installs anew whatever differs.

packer {
  required_version = ">= 1.9"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3, < 2.0"
    }
  }
}

variable "region" {
  description = "Where the image is built and used."
  type        = string
}

variable "subnet_id" {
  description = "A subnet with a way to the internet; the default VPC's where null."
  type        = string
  default     = null
}

variable "supervisor" {
  description = "The supervisor by architecture (`arm64`, `x86_64`): an https URL, and the file's SHA-256."
  type        = map(object({ url = string, sha256 = string }))
}

variable "runner" {
  description = "The runner distribution by architecture, as `supervisor`; its SHA-256 is in the release's notes."
  type        = map(object({ url = string, sha256 = string }))
}

locals {
  name = "github-runner-${formatdate("YYYYMMDD-hhmmss", timestamp())}"

  install = "${path.root}/../boot/install"
  units   = "${path.root}/../systemd"
}

source "amazon-ebs" "runner" {
  region                      = var.region
  subnet_id                   = var.subnet_id
  associate_public_ip_address = true
  ena_support                 = true
  encrypt_boot                = true

  # As its instances will be.
  imds_support = "v2.0"

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }

  aws_polling {
    delay_seconds = 15
    max_attempts  = 120
  }
}

build {
  name = "runner"

  source "amazon-ebs.runner" {
    name          = "amazon-linux-arm64"
    ami_name      = "${local.name}-amazon-linux-arm64"
    instance_type = "t4g.medium"
    ssh_username  = "ec2-user"

    source_ami_filter {
      owners      = ["amazon"]
      most_recent = true
      filters     = { name = "al2023-ami-2023.*-arm64", virtualization-type = "hvm", root-device-type = "ebs" }
    }
  }

  source "amazon-ebs.runner" {
    name          = "amazon-linux-x86_64"
    ami_name      = "${local.name}-amazon-linux-x86_64"
    instance_type = "t3.medium"
    ssh_username  = "ec2-user"

    source_ami_filter {
      owners      = ["amazon"]
      most_recent = true
      filters     = { name = "al2023-ami-2023.*-x86_64", virtualization-type = "hvm", root-device-type = "ebs" }
    }
  }

  source "amazon-ebs.runner" {
    name          = "ubuntu-arm64"
    ami_name      = "${local.name}-ubuntu-arm64"
    instance_type = "t4g.medium"
    ssh_username  = "ubuntu"

    source_ami_filter {
      owners      = ["099720109477"] # Canonical
      most_recent = true
      filters     = { name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*", virtualization-type = "hvm" }
    }
  }

  source "amazon-ebs.runner" {
    name          = "ubuntu-x86_64"
    ami_name      = "${local.name}-ubuntu-x86_64"
    instance_type = "t3.medium"
    ssh_username  = "ubuntu"

    source_ami_filter {
      owners      = ["099720109477"] # Canonical
      most_recent = true
      filters     = { name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*", virtualization-type = "hvm" }
    }
  }

  provisioner "shell" {
    inline = ["cloud-init status --wait || true", "mkdir -p /var/tmp/units"]
  }

  provisioner "file" {
    source      = "${local.units}/"
    destination = "/var/tmp/units"
  }

  provisioner "shell" {
    script          = local.install
    execute_command = "chmod +x '{{ .Path }}' && sudo env {{ .Vars }} '{{ .Path }}' --bake"

    environment_vars = [
      "UNITS=/var/tmp/units",
      "SUPERVISOR_URL=${var.supervisor[regex("(arm64|x86_64)$", source.name)[0]].url}",
      "SUPERVISOR_SHA256=${var.supervisor[regex("(arm64|x86_64)$", source.name)[0]].sha256}",
      "RUNNER_URL=${var.runner[regex("(arm64|x86_64)$", source.name)[0]].url}",
      "RUNNER_SHA256=${var.runner[regex("(arm64|x86_64)$", source.name)[0]].sha256}",
    ]
  }

  # Nothing of this machine goes into the image: keys, ids, the history of its building.
  provisioner "shell" {
    inline = [
      "sudo rm -rf /var/tmp/units /var/lib/cloud/instances /var/lib/cloud/instance /var/lib/cloud/data",
      "sudo truncate --size 0 /etc/machine-id",
      "sudo sh -c 'rm -f /etc/ssh/ssh_host_* ~root/.ssh/authorized_keys /home/*/.ssh/authorized_keys ~root/.bash_history /home/*/.bash_history'",
    ]
  }

  post-processor "manifest" {
    output = "image-manifest.json"
  }
}
