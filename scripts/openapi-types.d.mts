/** TypeScript of the types in some OpenAPI documents, not yet formatted. */
export function renderTypes(documents: Readonly<Record<string, unknown>>): string;
