# The queue of jobs, its dead-letter queue, and the mapping that wakes scale-up.

locals {
  # AWS asks for six times the consumer's time limit and the window on top (Lambda developer guide, "Configuring an SQS
  # event source", read 2026-11-26): shorter, and a slow batch is handed out a second time while it is worked on.
  visibility_seconds = 6 * var.consumer_timeout_seconds + var.batching_window_seconds
  # A message must outlast an outage of GitHub of an hour, and then some.
  receive_count_max = max(5, ceil(2.5 * 3600 / local.visibility_seconds))

  # Nobody but the functions that have something to say, and nothing in the clear. The allow is their roles'.
  fence = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyTheSenders"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:SendMessage"
        Resource  = var.arn
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = var.sender_role_arns } }
      },
      {
        Sid       = "NothingInTheClear"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = var.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  }
}

resource "aws_sqs_queue" "this" {
  # checkov:skip=CKV_AWS_27:encrypted with SQS's own key unless kms_key_arn names one; a message holds ids and labels
  name                       = var.name
  visibility_timeout_seconds = local.visibility_seconds
  # GitHub cancels a job that nobody took within a day.
  message_retention_seconds = 2 * 24 * 3600
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
  tags                      = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = local.receive_count_max
  })

  lifecycle {
    postcondition {
      condition     = self.visibility_timeout_seconds >= 6 * var.consumer_timeout_seconds
      error_message = "The visibility timeout must be at least six times the consumer's time limit."
    }
  }
}

resource "aws_sqs_queue" "dead_letters" {
  # checkov:skip=CKV_AWS_27:encrypted with SQS's own key unless kms_key_arn names one
  name = "${var.name}-dead-letters"
  # The longest: an alarm rings at the first, and a weekend is not a loss.
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn
  tags                      = var.tags
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.this.arn]
  })
}

resource "aws_sqs_queue_policy" "this" {
  queue_url = aws_sqs_queue.this.id
  policy    = jsonencode(local.fence)
}

resource "aws_lambda_event_source_mapping" "this" {
  event_source_arn                   = aws_sqs_queue.this.arn
  function_name                      = var.consumer_arn
  batch_size                         = var.batch_size
  maximum_batching_window_in_seconds = var.batching_window_seconds
  # Without this one job's failure brings the whole batch back.
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
}
