output "table_name" {
  description = "Name of the ledger."
  value       = aws_dynamodb_table.ledger.name
}

output "vital_signs_table_name" {
  description = "Name of the table of vital signs."
  value       = aws_dynamodb_table.vital_signs.name
}
