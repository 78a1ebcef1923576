# A deployment that is not retired, whose instances live, or whose registrations and configurations were not taken away,
# must not be destroyed: nobody would be left to end them. This is destroyed first, and refuses.
#
# It runs `guard` with the AWS CLI, the one tool beyond Terraform: no resource or check of Terraform itself is evaluated
# while something is destroyed. Without the CLI it refuses, too, and says so.
#
# The script itself is in the state, not its path: whoever destroys may have the module somewhere else than who applied.
resource "terraform_data" "guard" {
  input = {
    script      = file("${path.module}/guard")
    environment = var.environment
    region      = local.region
    ledger      = module.ledger.table_name
    runners     = local.parameters.runners
    config      = local.parameters.config
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = ["bash", "-c"]
    command     = self.input.script
    environment = {
      ENVIRONMENT           = self.input.environment
      AWS_REGION            = self.input.region
      LEDGER_TABLE          = self.input.ledger
      RUNNER_PARAMETER_PATH = self.input.runners
      # An earlier version's script, which may still be in the state, has no such question.
      CONFIG_PARAMETER = try(self.input.config, "")
    }
  }

  depends_on = [
    module.function, module.queue, module.ledger, module.schedule, module.launch_template, module.observability,
    aws_apigatewayv2_stage.this, aws_apigatewayv2_route.webhook, aws_lambda_permission.webhook, aws_ssm_parameter.config, aws_ssm_parameter.kill_switch,
    aws_iam_role_policy.instance, aws_security_group.instance, aws_vpc_security_group_egress_rule.all,
  ]
}
