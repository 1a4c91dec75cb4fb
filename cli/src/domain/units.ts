declare const unit: unique symbol;
type Unit<Name extends string> = number & { readonly [unit]: Name };

/** Mebibytes (2^20 bytes), the unit NVML and our budgets use for memory. */
export type MiB = Unit<"MiB">;
/** Milliseconds of elapsed (monotonic) time. */
export type Milliseconds = Unit<"ms">;

export const mib = (value: number): MiB => value as MiB;
export const ms = (value: number): Milliseconds => value as Milliseconds;
