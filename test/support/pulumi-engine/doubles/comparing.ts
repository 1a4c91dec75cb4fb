/** What a change of inputs means, as a provider answers it to the engine. */
import proto from "@pulumi/pulumi/proto/provider_pb.js";
import type { ResourceKind } from "./provider.js";
import { fromStruct, plain, plainProperties, type Properties } from "./values.js";

const { Kind } = proto.PropertyDiff;

/** Inputs that differ, whether they are secret or not. */
export const changedKeys = (before: Properties, after: Properties): string[] =>
  [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((key) => JSON.stringify(plain(before[key])) !== JSON.stringify(plain(after[key])))
    .sort();

/** Compares inputs with inputs: what a provider computed is nobody's change. */
export function compare(kind: ResourceKind, request: proto.DiffRequest): proto.DiffResponse {
  const [before, after] = [fromStruct(request.getOldInputs()), fromStruct(request.getNews())];
  const keys = changedKeys(before, after);
  const replacing = replacingOf(kind, before, after).filter((key) => keys.includes(key));
  const response = new proto.DiffResponse();
  response.setChanges(keys.length > 0 ? proto.DiffResponse.DiffChanges.DIFF_SOME : proto.DiffResponse.DiffChanges.DIFF_NONE);
  response.setDiffsList(keys).setReplacesList(replacing);
  response.setDeletebeforereplace(replacing.length > 0 && kind.deletesFirst?.(after) === true);
  response.setHasdetaileddiff(true);
  for (const key of keys) {
    const [plainly, byReplacing] = kindsOfChange(key in before, key in after);
    const detail = new proto.PropertyDiff().setKind(replacing.includes(key) ? byReplacing : plainly).setInputdiff(true);
    response.getDetaileddiffMap().set(key, detail);
  }
  return response;
}

function kindsOfChange(before: boolean, after: boolean): [proto.PropertyDiff.Kind, proto.PropertyDiff.Kind] {
  if (!before) return [Kind.ADD, Kind.ADD_REPLACE];
  return after ? [Kind.UPDATE, Kind.UPDATE_REPLACE] : [Kind.DELETE, Kind.DELETE_REPLACE];
}

function replacingOf({ replacedBy = [] }: ResourceKind, before: Properties, after: Properties): readonly string[] {
  return typeof replacedBy === "function" ? replacedBy(plainProperties(before), plainProperties(after)) : replacedBy;
}
