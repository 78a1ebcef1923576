# The door: an HTTP API whose one route hands what GitHub sends to the webhook function.
#
# Not a function URL: since October 2025 a new one needs a second permission (`lambda:InvokeFunction` for everybody, on
# the condition `lambda:InvokedViaFunctionUrl`) that version 5 of the provider cannot write, and it has no limit on
# requests. The event is the same (payload format 2.0).

resource "aws_apigatewayv2_api" "this" {
  name          = local.name
  description   = "Deliveries of the GitHub App of ${local.name}"
  protocol_type = "HTTP"
  tags          = local.tags
}

resource "aws_apigatewayv2_integration" "webhook" {
  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_uri        = module.function["webhook"].invoke_arn
  payload_format_version = "2.0"
  # GitHub gives up after 10 s.
  timeout_milliseconds = 10000
}

resource "aws_apigatewayv2_route" "webhook" {
  # checkov:skip=CKV_AWS_309:who sends is proved by the HMAC of the body, which only the function can check; GitHub signs no other way
  api_id    = aws_apigatewayv2_api.this.id
  route_key = "POST /webhook"
  target    = "integrations/${aws_apigatewayv2_integration.webhook.id}"
}

resource "aws_cloudwatch_log_group" "requests" {
  # checkov:skip=CKV_AWS_158:encrypted with CloudWatch's own key unless kms_key_arn names one
  # checkov:skip=CKV_AWS_338:how long is for log_retention_days to say
  name              = "/aws/apigateway/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true
  tags        = local.tags

  # A flood of strangers ends here, before it costs an invocation. A delivery that is refused with it is failed at GitHub,
  # and demand-reconciler finds its job. Higher, and a flood takes the account's concurrency; lower, and a burst of a
  # large organisation is refused.
  default_route_settings {
    throttling_burst_limit = 1000
    throttling_rate_limit  = 500
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.requests.arn
    format = jsonencode({
      requestId = "$context.requestId"
      at        = "$context.requestTime"
      address   = "$context.identity.sourceIp"
      route     = "$context.routeKey"
      status    = "$context.status"
      bytes     = "$context.responseLength"
      ms        = "$context.responseLatency"
      error     = "$context.error.message"
    })
  }
}

# By the ARN, which holds account and API. No `source_account` besides: it is there for sources whose ARN names no account
# (S3), and nobody documents that API Gateway says its own; every delivery would be answered 500 where it does not.
resource "aws_lambda_permission" "webhook" {
  statement_id  = "deliveries"
  action        = "lambda:InvokeFunction"
  function_name = module.function["webhook"].name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*/POST/webhook"
}
