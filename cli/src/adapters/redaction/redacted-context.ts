import type { Redaction } from "../../domain/redaction.js";
import type { ReleaseRecord } from "../../domain/release.js";
import type { AuditLog, Context, ReleaseStore } from "../../ports.js";

/**
 * The same context, where what others said goes into records and audit without a secret's value. What a release is stays as it is: a
 * later deploy or rollback makes instances of it, also where a secret happens to be the name of something.
 */
export function redactedContext(context: Context, redaction: Redaction): Context {
  return { ...context, releases: redactedReleases(context.releases, redaction), audit: redactedAudit(context.audit, redaction) };
}

type Secrets = Awaited<ReturnType<ReleaseStore["secrets"]>>;

function redactedReleases(releases: ReleaseStore, redaction: Redaction): ReleaseStore {
  const noted = (secrets: Secrets): Secrets => {
    for (const byName of Object.values(secrets)) for (const value of Object.values(byName)) redaction.note(value);
    return secrets;
  };
  const withoutSaid = (record: ReleaseRecord): ReleaseRecord => ({
    ...record,
    failure: redaction.of(record.failure),
    gates: redaction.of(record.gates),
  });
  return {
    list: () => releases.list(),
    create: (record, secrets) => releases.create(record, noted(secrets)),
    update: (record) => releases.update(withoutSaid(record)),
    secrets: async (id) => noted(await releases.secrets(id)),
    remove: (id) => releases.remove(id),
    hmac: (value) => releases.hmac(value),
    ...(releases.complete === undefined ? {} : { complete: async () => (await releases.complete?.()) ?? [] }),
  };
}

const redactedAudit = (audit: AuditLog, redaction: Redaction): AuditLog => ({
  append: (entry) => audit.append(redaction.of(entry)),
  read: (last) => audit.read(last),
});
