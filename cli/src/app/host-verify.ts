import { requireNode, type HostContext } from "./host-prepare.js";
import { judgeHost, type HostFinding } from "../domain/host/judge.js";
import { readResult, type HostResult } from "../domain/host/result.js";

export interface VerifyResult {
  node: string;
  findings: readonly HostFinding[];
  /** What the last preparation left; null on a host that was never prepared. */
  left: HostResult | null;
  /** How the host is now. */
  now: HostResult | null;
}

/** Compares a host with what its preparation left; changes nothing. */
export async function verifyHost({ config, preparer, signal }: HostContext, node: string): Promise<VerifyResult> {
  requireNode(config, node);
  const left = readResult((await preparer.result(node, signal)) ?? "");
  const now = left === null ? null : readResult((await preparer.check(node, signal)) ?? "");
  const script = await preparer.script();
  return { node, findings: judgeHost(node, { left, now, script }), left, now };
}
