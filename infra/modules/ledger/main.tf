# The ledger and the vital signs (ARCHITECTURE.md, "Interfaces").

resource "aws_dynamodb_table" "ledger" {
  # checkov:skip=CKV_AWS_119:encrypted with DynamoDB's own key unless kms_key_arn names one
  name         = "${var.name}-ledger"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"
  range_key    = "sk"
  tags         = var.tags

  dynamic "attribute" {
    for_each = toset(["pk", "sk", "open_pk", "open_sk"])
    content {
      name = attribute.value
      type = "S"
    }
  }

  # Sparse: only records that somebody still has to look at have the two attributes.
  global_secondary_index {
    name            = "open"
    hash_key        = "open_pk"
    range_key       = "open_sk"
    projection_type = "ALL"
  }

  # Set on closed records, and on those that nobody may need any more although nothing closed them (ARCHITECTURE.md,
  # "Choices that look odd"); of instances on closed ones only.
  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null
    kms_key_arn = var.kms_key_arn
  }
}

# A sign of life is worth nothing ten minutes later, and an instance without one is kept: nothing here needs a backup.
resource "aws_dynamodb_table" "vital_signs" {
  # checkov:skip=CKV_AWS_28:what is lost is written again within a minute
  # checkov:skip=CKV_AWS_119:encrypted with DynamoDB's own key: with a customer's, every instance would need leave to use it
  name         = "${var.name}-vital-signs"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "instance_id"
  tags         = var.tags

  attribute {
    name = "instance_id"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }
}
