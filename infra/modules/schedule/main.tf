# What wakes a function by the clock.

resource "aws_iam_role" "this" {
  name                 = var.role_name
  description          = "Lets the scheduler wake ${var.function_name}"
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags

  # Only for schedules of our own group: the scheduler serves every account, and whoever makes a schedule names a role.
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = var.account, "aws:SourceArn" = var.group_arn } }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "all"
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "WakeOneFunction"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = var.function_arn
      },
      {
        Sid      = "ReportLostTicks"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = var.dead_letter_queue_arn
      },
    ]
  })
}

resource "aws_scheduler_schedule" "this" {
  # checkov:skip=CKV_AWS_297:the event is empty; there is nothing to encrypt
  name                = var.name
  group_name          = var.group_name
  description         = "Wakes ${var.function_name}"
  schedule_expression = var.expression

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = var.function_arn
    role_arn = aws_iam_role.this.arn
    # It says nothing that is believed: every pass reads the world anew.
    input = "{}"

    # A tick that is a minute late is the next one's work.
    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 2
    }

    dead_letter_config {
      arn = var.dead_letter_queue_arn
    }
  }
}

# A pass that failed is not repeated by Lambda: the next tick does it again, from where it stopped.
resource "aws_lambda_function_event_invoke_config" "this" {
  function_name                = var.function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}
