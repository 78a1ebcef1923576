# What the functions read at every start: the configuration document and the kill switch. The App's id, key and secret
# are put beside them by `runner-scaler app create` or by hand, so that they are in no state file.

locals {
  document      = merge(local.document_head, { fleets = local.fleet_documents })
  document_json = jsonencode(local.document)

  # Counted with a template's id and version that are as long as any: the tier has to be known in the plan, where those of
  # a new template are not. Base64 makes four characters of three bytes.
  document_bytes = ceil(length(base64encode(jsonencode(merge(local.document_head, {
    fleets = [for fleet in local.fleet_settings : merge(fleet, { launch_template = { id = "lt-0123456789abcdef0", version = "1000000" } })]
  })))) * 3 / 4)

  document_head = merge(
    {
      mode         = var.mode
      repositories = var.repositories
    },
    var.owners == tolist(["*"]) ? {} : { owners = var.owners },
    var.owner_ids == null ? {} : { owner_ids = var.owner_ids },
    var.repository_ids == null ? {} : { repository_ids = var.repository_ids },
    var.ledger_epoch == null ? {} : { ledger_epoch = var.ledger_epoch },
  )

  fleet_documents = [for index, fleet in var.fleets : merge(local.fleet_settings[index], {
    launch_template = { id = module.launch_template[fleet.name].id, version = tostring(module.launch_template[fleet.name].version) }
  })]

  fleet_settings = [for fleet in var.fleets : merge(
    {
      name               = fleet.name
      labels             = fleet.labels
      matching           = fleet.matching
      registration       = fleet.registration
      runner_group_id    = fleet.runner_group_id
      runner_name_prefix = fleet.runner_name_prefix
      runner_count_max   = fleet.runner_count_max
      market             = fleet.market
      instance_types     = fleet.instance_types
      subnet_ids         = local.fleets[fleet.name].subnet_ids
      idle               = fleet.idle
      eviction           = fleet.eviction
    },
    fleet.idle_owner == null ? {} : { idle_owner = fleet.idle_owner },
    fleet.fallback == null ? {} : { fallback = fleet.fallback },
    fleet.label_overrides == null ? {} : { label_overrides = fleet.label_overrides },
    { for name, seconds in fleet.timers : name => seconds if seconds != null },
  )]
}

resource "aws_ssm_parameter" "config" {
  # checkov:skip=CKV2_AWS_34:the document is no secret: names of fleets, labels, subnets
  # checkov:skip=CKV_AWS_337:the document is no secret
  name        = local.parameters.config
  description = "Configuration document of ${local.name}"
  type        = "String"
  # A standard parameter takes 4,096 bytes, an advanced one 8,192 and costs 5 cents a month.
  tier  = local.document_bytes > 4096 ? "Advanced" : "Standard"
  value = local.document_json
  tags  = local.tags

  lifecycle {
    precondition {
      condition     = local.document_bytes <= 8192
      error_message = "fleets, repositories and their like make a configuration document of ${local.document_bytes} bytes, and SSM takes 8192: name repositories by globs (\"acme/*\"), or split the fleets over two deployments."
    }
  }
}

resource "aws_ssm_parameter" "kill_switch" {
  # checkov:skip=CKV2_AWS_34:a switch is no secret
  # checkov:skip=CKV_AWS_337:a switch is no secret
  name        = local.parameters.kill_switch
  description = "Removal in ${local.name}: `enabled`, or anything else to stop it"
  type        = "String"
  value       = "enabled"
  tags        = local.tags

  lifecycle {
    # A person throws it in a hurry, past Terraform; the next apply must not close it again.
    ignore_changes = [value]
  }
}
