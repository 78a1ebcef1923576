variable "region" {
  description = "Where all of it runs."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets with a way out."
  type        = list(string)
}

variable "supervisor" {
  description = "Where instances fetch the supervisor (`dist/runner-supervisor-arm64`), and its SHA-256 (`dist/SHA256SUMS`)."
  type = object({
    url    = string
    sha256 = string
  })
}

variable "packages_folder" {
  description = "Folder with the functions' packages; `null`: `dist/arm64` beside the module's own folder, where `infra/package` writes them."
  type        = string
  default     = null
}
