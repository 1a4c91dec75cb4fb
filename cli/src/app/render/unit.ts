/** What a boot-time unit must name, because systemd has no shell's PATH and no working directory. */
export interface UnitFacts {
  project: string;
  environment: string;
  node: string;
  program: string;
  projectFile: string;
}

/**
 * A systemd user unit that puts the current release back into service after a reboot, through the same gates as a deploy.
 * `KillMode=process`: stopping the unit must not take the services with it; `gpuctl destroy` stops them.
 */
export function systemdUnit({ project, environment, node, program, projectFile }: UnitFacts): string {
  const argv = [node, program, "repair", "--environment", environment, "--config", projectFile, "--quiet"];
  return `# Save as ~/.config/systemd/user/gpuctl-${project}-${environment}.service, then:
#   systemctl --user daemon-reload
#   systemctl --user enable gpuctl-${project}-${environment}.service
#   loginctl enable-linger    (so that it starts at boot, not at login)
[Unit]
Description=gpuctl ${project} (${environment})
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart=${argv.map(quoteForSystemd).join(" ")}
TimeoutStartSec=1800

[Install]
WantedBy=default.target
`;
}

/** systemd's own quoting: double quotes, with backslash, quote, percent and dollar escaped. */
function quoteForSystemd(text: string): string {
  const escaped = text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /[\s"'\\]/.test(text) ? `"${escaped}"` : escaped;
}
