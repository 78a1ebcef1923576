variable "supervisor_sha256" {
  description = "SHA-256 of the supervisor's binaries (`dist/SHA256SUMS`)."
  type = object({
    arm64  = string
    x86_64 = string
  })
}

variable "packages_folder" {
  description = "Folder with the functions' packages; `null`: `dist/arm64` beside the module's own folder, where `infra/package` writes them."
  type        = string
  default     = null
}
