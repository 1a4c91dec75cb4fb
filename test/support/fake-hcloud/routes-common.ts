/** What every kind has: list with filters, one by its id, new name and labels; and the kinds that have nothing more. */
import { createHash } from "node:crypto";
import { created, gone, invalid, labels, ok, page, text, type Call, type Route } from "./routing.js";
import { fits } from "./selector.js";
import { ApiError, kinds, singular, type Kind, type Thing } from "./world.js";

/** Types of things in `resources` of actions, by kind. */
export const typeOfKind = (kind: Kind): string => singular(kind);

function listed(call: Call, kind: Kind): Thing[] {
  const [name, selector] = [call.query.get("name"), call.query.get("label_selector")];
  return call.world
    .list(kind)
    .filter((thing) => name === null || thing.name === name)
    .filter((thing) => selector === null || fits(selector, thing.labels));
}

/** Throws `locked` (423) while an action on the thing runs, as the API does for whatever would change it. */
export function requireFree(call: Call, kind: Kind, thing: Thing): void {
  if (call.world.isBusy(typeOfKind(kind), thing.id)) throw new ApiError(423, "locked", `${singular(kind)} is locked`);
}

/** Throws `protected` when the thing must not be deleted. */
export function requireUnprotected(thing: Thing, kind: Kind): void {
  if ((thing["protection"] as { delete?: boolean } | undefined)?.delete === true)
    throw new ApiError(403, "protected", `${singular(kind)} deletion is protected`);
}

/** `POST /<kind>/{id}/actions/change_protection`, alike for every kind that has it. */
export const changeProtection = (kind: Kind): Route => [
  "POST",
  new RegExp(`^/${kind}/(\\d+)/actions/change_protection$`),
  (call) => {
    const thing = call.world.get(kind, call.params[0]);
    thing["protection"] = { ...(thing["protection"] as object), ...call.body };
    return created({ action: call.world.begin("change_protection", [{ id: thing.id, type: typeOfKind(kind) }]) });
  },
];

const general: readonly Route[] = kinds.flatMap((kind): Route[] => [
  ["GET", new RegExp(`^/${kind}$`), (call) => page(call, kind, listed(call, kind))],
  ["GET", new RegExp(`^/${kind}/(\\d+)$`), (call) => ok({ [singular(kind)]: call.world.get(kind, call.params[0]) })],
  [
    "PUT",
    new RegExp(`^/${kind}/(\\d+)$`),
    (call) => {
      const thing = call.world.get(kind, call.params[0]);
      if (call.body["name"] !== undefined) {
        const name = text(call.body, "name");
        call.world.unique(kind, "name", name, thing.id);
        thing.name = name;
      }
      if (call.body["labels"] !== undefined) thing.labels = labels(call.body);
      if (call.body["auto_delete"] !== undefined) thing["auto_delete"] = call.body["auto_delete"];
      return ok({ [singular(kind)]: thing });
    },
  ],
]);

const sshKeys: readonly Route[] = [
  [
    "POST",
    /^\/ssh_keys$/,
    (call) => {
      const key = text(call.body, "public_key").trim();
      const [, base64] = key.split(/\s+/);
      if (base64 === undefined) throw invalid("public_key", "not a public key");
      const digest = createHash("md5").update(Buffer.from(base64, "base64")).digest("hex");
      const fingerprint = (digest.match(/../g) ?? []).join(":");
      call.world.unique("ssh_keys", "fingerprint", fingerprint);
      const fields = { name: text(call.body, "name"), labels: labels(call.body), public_key: key, fingerprint };
      return created({ ssh_key: call.world.add("ssh_keys", fields) });
    },
  ],
  [
    "DELETE",
    /^\/ssh_keys\/(\d+)$/,
    (call) => {
      call.world.remove("ssh_keys", call.world.get("ssh_keys", call.params[0]).id);
      return gone;
    },
  ],
];

const placementGroups: readonly Route[] = [
  [
    "POST",
    /^\/placement_groups$/,
    (call) => {
      if (call.body["type"] !== "spread") throw invalid("type", "must be spread");
      const fields = { name: text(call.body, "name"), labels: labels(call.body), type: "spread", servers: [] };
      return created({ placement_group: call.world.add("placement_groups", fields), action: null });
    },
  ],
  [
    "DELETE",
    /^\/placement_groups\/(\d+)$/,
    (call) => {
      const group = call.world.get("placement_groups", call.params[0]);
      if ((group["servers"] as number[]).length > 0)
        throw new ApiError(409, "resource_in_use", "placement group is used by servers");
      call.world.remove("placement_groups", group.id);
      return gone;
    },
  ],
];

/** Sold by the hour and found by `gpuctl infra gc`; the program makes none, so they are only kept. */
const keptOnly: readonly Route[] = (["load_balancers", "floating_ips"] as const).flatMap((kind): Route[] => [
  [
    "POST",
    new RegExp(`^/${kind}$`),
    (call) => {
      const fields = { ...call.body, name: text(call.body, "name"), labels: labels(call.body), protection: { delete: false } };
      return created({ [singular(kind)]: call.world.add(kind, fields), action: null });
    },
  ],
  [
    "DELETE",
    new RegExp(`^/${kind}/(\\d+)$`),
    (call) => {
      const thing = call.world.get(kind, call.params[0]);
      requireUnprotected(thing, kind);
      call.world.remove(kind, thing.id);
      return gone;
    },
  ],
]);

export const commonRoutes: readonly Route[] = [...general, ...sshKeys, ...placementGroups, ...keptOnly];
