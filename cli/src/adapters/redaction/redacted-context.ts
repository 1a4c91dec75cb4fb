import type { Redaction } from "../../domain/redaction.js";
import type { AuditLog, Context, ReleaseStore } from "../../ports.js";

/** The same context, whose records and audit never hold a secret's value, whatever text of others is put into them. */
export function redactedContext(context: Context, redaction: Redaction): Context {
  return { ...context, releases: redactedReleases(context.releases, redaction), audit: redactedAudit(context.audit, redaction) };
}

type Secrets = Awaited<ReturnType<ReleaseStore["secrets"]>>;

function redactedReleases(releases: ReleaseStore, redaction: Redaction): ReleaseStore {
  const noted = (secrets: Secrets): Secrets => {
    for (const byName of Object.values(secrets)) for (const value of Object.values(byName)) redaction.note(value);
    return secrets;
  };
  return {
    list: () => releases.list(),
    create: (record, secrets) => releases.create(redaction.of(record), noted(secrets)),
    update: (record) => releases.update(redaction.of(record)),
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
