# A deployment: the functions and what wakes them, their stores, the instances' templates, and what watches all of it.
# Who may do what is in iam.tf.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  name = "runner-scaler-${var.environment}"
  tags = merge(var.tags, { "ghr:environment" = var.environment })

  partition = data.aws_partition.this.partition
  account   = data.aws_caller_identity.this.account_id
  # `name` became `region` in version 6 of the provider; the last part of `id` is the same in all.
  region = data.aws_region.this.id

  # By name and not by reference, so that policies and environment are known, and can be read, before anything exists.
  parameter_path = "/runner-scaler/${var.environment}"
  parameters = {
    config      = "${local.parameter_path}/config"
    kill_switch = "${local.parameter_path}/kill-switch"
    app         = "${local.parameter_path}/app"
    runners     = "${local.parameter_path}/runners"
  }

  packages_folder = coalesce(var.packages_folder, "${path.module}/../dist/${var.function_architecture}")

  # Timeouts: GitHub gives the webhook 10 s. scale-up's decides for how long a killed one's jobs wait (six times as long,
  # the queue's visibility timeout): shorter, and fifty configurations against SSM's limit do not fit. A pass of the
  # others stops by itself before its end and goes on in the next.
  functions = {
    webhook           = { timeout_seconds = 10 }
    scale-up          = { timeout_seconds = 60 }
    scale-down        = { timeout_seconds = 60 }
    orphan-sweeper    = { timeout_seconds = 240 }
    demand-reconciler = { timeout_seconds = 60 }
  }

  # What wakes a function by the clock, under which role. A role's name has 64 characters, of which the longest
  # environment leaves 18: none for a function's whole name and a word more.
  schedules = {
    scale-down        = { expression = "rate(1 minute)", role = "wake-scale-down" }
    orphan-sweeper    = { expression = "rate(5 minutes)", role = "wake-sweeper" }
    demand-reconciler = { expression = "rate(1 minute)", role = "wake-reconciler" }
  }

  function_arns = { for name in keys(local.functions) : name => "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${local.name}-${name}" }
  role_arns     = { for name in keys(local.functions) : name => "arn:${local.partition}:iam::${local.account}:role/${local.name}-${name}" }

  function_variables = {
    ENVIRONMENT            = var.environment
    CONFIG_PARAMETER       = local.parameters.config
    GITHUB_APP_PATH        = local.parameters.app
    LEDGER_TABLE           = module.ledger.table_name
    VITAL_SIGNS_TABLE      = module.ledger.vital_signs_table_name
    VITAL_SIGNS_KEY_PREFIX = local.vital_signs_key_prefix
    SCALE_UP_QUEUE_URL     = module.queue.url
    RUNNER_PARAMETER_PATH  = local.parameters.runners
    KILL_SWITCH_PARAMETER  = local.parameters.kill_switch
    GITHUB_API_URL         = var.github_api_url
    LOG                    = var.log_level
  }

  # What IAM calls `aws:userid` of an instance is its role's unique id, a colon and the instance's id: an instance can
  # be held to keys that begin like this, and to none that is its id alone.
  vital_signs_key_prefix = "${aws_iam_role.instance.unique_id}:"
}

module "function" {
  source   = "./modules/function"
  for_each = local.functions

  name                     = "${local.name}-${each.key}"
  arn                      = local.function_arns[each.key]
  package                  = "${local.packages_folder}/${each.key}.zip"
  architecture             = var.function_architecture
  timeout_seconds          = each.value.timeout_seconds
  variables                = local.function_variables
  policy                   = local.function_policies[each.key]
  network                  = var.function_network
  kms_key_arn              = var.kms_key_arn
  permissions_boundary_arn = var.permissions_boundary_arn
  log_retention_days       = var.log_retention_days
  tags                     = local.tags
}

module "queue" {
  source = "./modules/queue"

  name                     = "${local.name}-scale-up"
  arn                      = local.arn.queue
  consumer_timeout_seconds = local.functions["scale-up"].timeout_seconds
  # Lambda waits for so long to fill a batch: one launch for a matrix of jobs in place of one each.
  batching_window_seconds = 1
  batch_size              = 50
  maximum_concurrency     = var.scale_up_concurrency
  consumer_arn            = module.function["scale-up"].arn
  sender_role_arns        = [for name in ["webhook", "demand-reconciler"] : local.role_arns[name]]
  kms_key_arn             = var.kms_key_arn
  tags                    = local.tags
}

module "ledger" {
  source = "./modules/ledger"

  name        = local.name
  kms_key_arn = var.kms_key_arn
  tags        = local.tags
}

resource "aws_scheduler_schedule_group" "this" {
  name = local.name
  tags = local.tags
}

# What the scheduler could not hand to its function. The next tick does the same work; a message here says that ticks
# are lost.
resource "aws_sqs_queue" "lost_ticks" {
  # checkov:skip=CKV_AWS_27:encrypted with SQS's own key: a tick holds nothing, and the scheduler needs no key
  name                      = "${local.name}-lost-ticks"
  message_retention_seconds = 4 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

module "schedule" {
  source   = "./modules/schedule"
  for_each = local.schedules

  name                     = "${local.name}-${each.key}"
  role_name                = "${local.name}-${each.value.role}"
  group_name               = aws_scheduler_schedule_group.this.name
  group_arn                = aws_scheduler_schedule_group.this.arn
  expression               = each.value.expression
  function_name            = module.function[each.key].name
  function_arn             = local.function_arns[each.key]
  dead_letter_queue_arn    = local.arn.lost_ticks
  permissions_boundary_arn = var.permissions_boundary_arn
  account                  = local.account
  tags                     = local.tags
}
