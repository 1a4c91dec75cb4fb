/** Services in the order in which they are started; the index may embed through the embedder, so it comes last. */
export const serviceNames = ["embedder", "reranker", "index"] as const;
export type ServiceName = (typeof serviceNames)[number];

export const targetKinds = ["process", "compose", "swarm", "kubernetes"] as const;
export type TargetKind = (typeof targetKinds)[number];

/** What people call whatever of a target holds the public sockets. */
export type ManagerName = "keeper" | "proxy";

export const managerName = (target: TargetKind): ManagerName => (target === "process" ? "keeper" : "proxy");

export const deviceKinds = ["cuda", "mps", "cpu"] as const;
export type Device = (typeof deviceKinds)[number];

/**
 * Levels of device proof, weakest first: `self`, the engine's own word with a canary answer; `vram`, memory of the card that rose as
 * expected; `process`, the instance's process seen on the card.
 */
export const proofLevels = ["self", "vram", "process"] as const;
export type ProofLevel = (typeof proofLevels)[number];

/** `r<number>-<first 8 hex of the record's content hash>`, for example `r12-9f3ab2c1`. */
export type ReleaseId = `r${number}-${string}`;
/** The two places an instance of a service can live in; a candidate starts in the free one. */
export type Slot = "a" | "b";
/** `<service>-<release id that introduced it>-<slot>`. */
export type InstanceId = string;
/** Lower-case hex SHA-256. */
export type Sha256 = string;
