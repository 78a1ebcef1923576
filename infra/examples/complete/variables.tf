variable "supervisor_sha256" {
  description = "SHA-256 of the supervisor's binaries (`dist/SHA256SUMS`)."
  type = object({
    arm64  = string
    x86_64 = string
  })
}

variable "packages_folder" {
  description = "Folder that `infra/package` wrote; `null`: `dist` beside the module's own folder."
  type        = string
  default     = null
}
