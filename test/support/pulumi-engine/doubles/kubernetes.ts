/**
 * @pulumi/kubernetes as a double: objects and Helm releases in memory, by cluster. Of the provider it keeps: an object that is there
 * already is not created again (since v4.29), a patch needs its object, a new name or namespace replaces, so does a new value of the
 * fields that the API does not change. No API server validates anything, and no chart is fetched.
 */
import type { ProviderDouble, ResourceKind } from "./provider.js";
import type { Properties } from "./values.js";

interface Metadata {
  name?: string;
  namespace?: string;
}

/** Inputs beside the metadata that the API never changes, by kind. */
const immutable: Readonly<Record<string, readonly string[]>> = {
  PriorityClass: ["value", "preemptionPolicy"],
  RuntimeClass: ["handler"],
};

/** What is in the clusters: `context type namespace/name`. Tests look, delete, and add nodes. */
export type Clusters = Map<string, Properties>;

const keyOf = (type: string, inputs: Properties, configuration: Properties): string => {
  const metadata = (inputs["metadata"] ?? inputs) as Metadata;
  if (metadata.name === undefined) throw new Error(`the double gives no names: ${type} needs one`);
  return `${(configuration["context"] as string | undefined) ?? ""} ${type} ${metadata.namespace ?? ""}/${metadata.name}`;
};

const idOf = (inputs: Properties): string => {
  const { name = "", namespace } = (inputs["metadata"] ?? inputs) as Metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
};

const replacedBy =
  (fields: readonly string[]) =>
  (before: Properties, after: Properties): readonly string[] =>
    idOf(before) === idOf(after) ? fields : [...fields, "metadata", "name", "namespace"];

function objectKind(type: string, clusters: Clusters): ResourceKind {
  return {
    replacedBy: replacedBy(immutable[type.split(":").pop() ?? ""] ?? []),
    deletesFirst: () => true,
    async create(inputs, configuration) {
      const key = keyOf(type, inputs, configuration);
      if (clusters.has(key)) throw new Error(`${key} was not created by the Kubernetes API server: it already exists`);
      clusters.set(key, inputs);
      return { id: idOf(inputs), ...(type === releaseType && { outputs: deployed(inputs, 1) }) };
    },
    async update(_id, inputs, { outputs }, configuration) {
      clusters.set(keyOf(type, inputs, configuration), inputs);
      const { revision = 0 } = (outputs["status"] ?? {}) as { revision?: number };
      return type === releaseType ? deployed(inputs, revision + 1) : {};
    },
    async read(_id, outputs, configuration) {
      return clusters.has(keyOf(type, outputs, configuration)) ? {} : undefined;
    },
    async delete(_id, outputs, configuration) {
      clusters.delete(keyOf(type, outputs, configuration));
    },
  };
}

const releaseType = "kubernetes:helm.sh/v3:Release";

const deployed = ({ name, namespace, chart, version }: Properties, revision: number): Properties => ({
  status: { status: "deployed", name, namespace, chart, version, revision },
});

/** A patch is of an object that somebody else made; what it set goes with it. */
function patchKind(type: string, clusters: Clusters): ResourceKind {
  const put = (inputs: Properties, configuration: Properties): void => {
    const object = keyOf(type.replace(/Patch$/, ""), inputs, configuration);
    if (!clusters.has(object)) throw new Error(`${object} not found`);
    clusters.set(keyOf(type, inputs, configuration), inputs);
  };
  return {
    ...objectKind(type, clusters),
    async create(inputs, configuration) {
      put(inputs, configuration);
      return { id: idOf(inputs) };
    },
    async update(_id, inputs, _old, configuration) {
      put(inputs, configuration);
      return {};
    },
  };
}

/** `clusters` is what they hold, to begin with and from then on. */
export const kubernetesDouble = (version: string, clusters: Clusters): ProviderDouble => ({
  name: "kubernetes",
  version,
  kind: (type) => (type.endsWith("Patch") ? patchKind(type, clusters) : objectKind(type, clusters)),
});
