# One Lambda function with its role and its logs.

locals {
  # Partition, region and account.
  place = split(":", var.arn)

  # Only into its own log group, which exists already: no function makes one that is kept for ever.
  logs = {
    Sid      = "WriteOwnLogs"
    Effect   = "Allow"
    Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    Resource = "arn:${local.place[1]}:logs:${local.place[3]}:${local.place[4]}:log-group:/aws/lambda/${var.name}:log-stream:*"
  }

  # Lambda makes the network interfaces of a function in a VPC under the function's own role, and none of these calls
  # can be held to a resource that exists before it (AWS Lambda developer guide, "Giving Lambda functions access to
  # resources in an Amazon VPC", read 2026-11-26). The deny keeps the function's own code from using them: Lambda's
  # calls do not have its ARN as their source.
  network = [for statement in [
    {
      Sid      = "AttachToNetwork"
      Effect   = "Allow"
      Action   = ["ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface", "ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
      Resource = "*"
    },
    {
      Sid      = "NoNetworkInterfacesFromCode"
      Effect   = "Deny"
      Action   = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
      Resource = "*"
      Condition = {
        ArnEquals = { "lambda:SourceFunctionArn" = var.arn }
      }
    },
  ] : statement if var.network != null]

  policy = {
    Version   = "2012-10-17"
    Statement = concat([local.logs], local.network, jsondecode(var.policy))
  }
}

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_158:encrypted with CloudWatch's own key unless kms_key_arn names one
  # checkov:skip=CKV_AWS_338:how long is for log_retention_days to say
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_iam_role" "this" {
  name                 = var.name
  description          = "Role of the function ${var.name}"
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  # checkov:skip=CKV_AWS_290:the star of AttachToNetwork is argued above; all others are exact
  # checkov:skip=CKV_AWS_355:calls that only list take no resource (argued at each in iam.tf)
  name   = "all"
  role   = aws_iam_role.this.id
  policy = jsonencode(local.policy)

  lifecycle {
    # IAM counts no white space, and this has none.
    precondition {
      condition     = length(jsonencode(local.policy)) <= 10240
      error_message = "The policy of ${var.name} has more than the 10,240 characters that IAM takes: each fleet, and each subnet of its own, adds to it. Let fleets share subnets (subnet_ids of the module), or split them over two deployments."
    }
  }
}

resource "aws_lambda_function" "this" {
  # checkov:skip=CKV_AWS_50:a function is one process with one log line a decision; X-Ray would add a daemon's start and a permission
  # checkov:skip=CKV_AWS_115:reserved concurrency is refused in accounts that still have the small quota; the queue has its maximum, passes agree by compare-and-swap
  # checkov:skip=CKV_AWS_116:ticks have the scheduler's dead-letter queue, jobs the queue's; a failed pass is repeated by the next
  # checkov:skip=CKV_AWS_117:a VPC only where function_network asks for one: it adds a NAT gateway and protects nothing here
  # checkov:skip=CKV_AWS_173:names and addresses only, no secret; kms_key_arn encrypts them all the same
  # checkov:skip=CKV_AWS_272:the package is built from source by the one who applies it
  function_name    = var.name
  role             = aws_iam_role.this.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = var.package
  source_code_hash = fileexists(var.package) ? filebase64sha256(var.package) : null
  # The processor's share grows with it; the webhook's start is its TLS handshake, and that is quick in 128 MB.
  memory_size = 128
  timeout     = var.timeout_seconds
  kms_key_arn = var.kms_key_arn
  tags        = var.tags

  environment {
    variables = var.variables
  }

  dynamic "vpc_config" {
    for_each = var.network == null ? [] : [var.network]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy.this]

  lifecycle {
    precondition {
      condition     = fileexists(var.package)
      error_message = "${var.package} is not there: build the packages first (infra/package)."
    }
  }
}
