import type { Duplex, Readable } from "node:stream";

/** How a script ended; `code` is null when a signal ended it. */
export interface Verdict {
  code: number | null;
  signal: string | null;
}

/** What a running script tells. */
export interface ScriptEvents {
  stdout(chunk: Buffer): void;
  stderr(chunk: Buffer): void;
  /** The transport has learned how the script ended; output may still come. */
  exited(verdict: Verdict): void;
  /** Nothing more will come; when no verdict came before, the connection was lost. */
  closed(cause: Error | null): void;
}

/** What a tunnel leads to, as the host sees it. */
export type TunnelEnd = { port: number } | { socket: string };

/** One connection to a host, over which scripts run side by side. Both transports are one of these; everything else is shared. */
export interface HostShell {
  /** `native`: it reports exit status and signal itself. `printed`: the frame around the output has to. */
  readonly status: "native" | "printed";
  /** Whether the connection has ended, for whatever reason. */
  readonly lost: boolean;
  /**
   * Starts a script of POSIX sh, whatever the account's login shell is. Throws TargetUnreachable when the host refuses.
   * The function it returns leaves the script alone: no event follows.
   */
  start(script: string, input: Readable | null, events: ScriptEvents, signal: AbortSignal): Promise<() => void>;
  /** Opens one way to a port or socket of the host. */
  forward(to: TunnelEnd, signal: AbortSignal): Promise<Duplex>;
  close(): Promise<void>;
}
