# How instances are launched: one template a fleet, one role and one security group for all.

locals {
  fleets = { for fleet in var.fleets : fleet.name => merge(fleet, {
    subnet_ids = length(fleet.subnet_ids) > 0 ? fleet.subnet_ids : var.subnet_ids
    # Graviton's types have a g behind the generation (m7g, c6gn, im4gn); a1 is the first of them.
    architecture = can(regex("^([a-z]+[0-9]+[a-z]*g[a-z]*|a1)\\.", fleet.instance_types[0])) ? "arm64" : "x86_64"
  }) }

  instance = "${path.module}/../instance"

  # The supervisor's settings (instance/README.md), by fleet. What the module knows has the last word, and all are written
  # in the order of their names, so that the same input gives the same bytes.
  supervisor_settings = { for name, fleet in local.fleets : name => merge(
    fleet.supervisor_settings,
    {
      RUNNER_PARAMETER_PATH  = local.parameters.runners
      VITAL_SIGNS_TABLE      = module.ledger.vital_signs_table_name
      VITAL_SIGNS_KEY_PREFIX = local.vital_signs_key_prefix
    },
    fleet.timers.idle_maximum_seconds == null ? {} : { IDLE_MAXIMUM_SECONDS = fleet.timers.idle_maximum_seconds },
  ) }

  image_parameters = { for name, fleet in local.fleets : name => coalesce(
    fleet.ami_ssm_parameter,
    "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${fleet.architecture}",
  ) if fleet.ami_id == null }
}

# Read at every plan: a new image becomes a new version of the template, seen in the plan before it runs anything.
data "aws_ssm_parameter" "image" {
  for_each = local.image_parameters
  name     = each.value
}

locals {
  # Whatever is named, as often as it is named: how many they are is known in the plan, where their ids may not be.
  named_subnet_ids = concat(var.subnet_ids, flatten(var.fleets[*].subnet_ids))
}

data "aws_subnet" "runner" {
  count = length(local.named_subnet_ids)
  id    = local.named_subnet_ids[count.index]
}

locals {
  subnet_zones = { for subnet in data.aws_subnet.runner : subnet.id => subnet.availability_zone... }

  # Fleets of which two subnets lie in one availability zone.
  crowded_fleets = [for name, fleet in local.fleets : name
    if length(distinct([for id in fleet.subnet_ids : local.subnet_zones[id][0]])) < length(fleet.subnet_ids)
  ]
}

module "launch_template" {
  source   = "./modules/launch-template"
  for_each = local.fleets

  name                 = "${local.name}-${each.key}"
  image_id             = coalesce(each.value.ami_id, try(nonsensitive(data.aws_ssm_parameter.image[each.key].value), null))
  root_device          = each.value.root_device
  disk_gib             = each.value.disk_gib
  public_ip            = each.value.public_ip
  instance_profile_arn = aws_iam_instance_profile.instance.arn
  security_group_id    = aws_security_group.instance.id
  kms_key_arn          = var.kms_key_arn
  tags                 = local.tags

  # Everything an instance runs at boot is in its template, so that a version of the template is a version of all of it.
  user_data = templatefile("${local.instance}/boot/user-data.sh.tftpl", {
    settings          = join("\n", [for name, value in local.supervisor_settings[each.key] : "${name}=${value}"])
    service           = file("${local.instance}/systemd/runner-supervisor.service")
    slice             = file("${local.instance}/systemd/runner.slice")
    install           = file("${local.instance}/boot/install")
    supervisor_url    = var.supervisor[each.value.architecture].url
    supervisor_sha256 = var.supervisor[each.value.architecture].sha256
    runner_url        = var.runner[each.value.architecture].url
    runner_sha256     = var.runner[each.value.architecture].sha256
  })
}

resource "aws_security_group" "instance" {
  # checkov:skip=CKV2_AWS_5:attached by the launch templates, in another module
  name        = "${local.name}-instance"
  description = "Runners of ${local.name}: nobody reaches them"
  vpc_id      = data.aws_subnet.runner[0].vpc_id
  tags        = merge(local.tags, { Name = "${local.name}-instance" })

  lifecycle {
    precondition {
      condition     = length(distinct(data.aws_subnet.runner[*].vpc_id)) == 1
      error_message = "subnet_ids and fleets[].subnet_ids must be subnets of one VPC, that of the security group: EC2 launches in no other. Take out those of another, or give it a deployment of its own."
    }

    precondition {
      condition     = length(local.crowded_fleets) == 0
      error_message = "two subnets of a fleet must not lie in one availability zone: EC2 refuses every launch with duplicate pools (the same instance type, twice in a zone). Name one subnet a zone, in fleets[].subnet_ids or, where a fleet names none, in subnet_ids. Fleets: ${join(", ", local.crowded_fleets)}."
    }
  }
}

# Jobs fetch what they like from wherever it is: a narrower way out is for the subnet's network to have.
resource "aws_vpc_security_group_egress_rule" "all" {
  # checkov:skip=CKV_AWS_382:a job's own downloads cannot be known in advance
  for_each = { ipv4 = "0.0.0.0/0", ipv6 = "::/0" }

  security_group_id = aws_security_group.instance.id
  description       = "What jobs fetch (${each.key})"
  ip_protocol       = "-1"
  cidr_ipv4         = each.key == "ipv4" ? each.value : null
  cidr_ipv6         = each.key == "ipv6" ? each.value : null
}
