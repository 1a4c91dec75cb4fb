/**
 * TypeScript types of what the services take and answer, from their checked-in OpenAPI documents. A generator of ours: the usual
 * one brings a dozen packages and wants TypeScript 5, and what msgspec writes is a small part of JSON Schema.
 */

const banner = "/** Generated from compose/services/openapi by `npm run generate`: what the services take and answer. */\n";

/**
 * @typedef {Readonly<Record<string, any>>} Schema
 * @typedef {{ components: { schemas: Readonly<Record<string, Schema>> } }} OpenApi
 * @param {Readonly<Record<string, OpenApi>>} documents by service
 * @returns {string} TypeScript, not yet formatted
 */
export function renderTypes(documents) {
  /** @type {Map<string, Schema>} */
  const schemas = new Map();
  for (const { components } of Object.values(documents)) {
    for (const [name, schema] of Object.entries(components.schemas)) {
      const known = schemas.get(name);
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(schema)) {
        throw new Error(`two services describe ${name} differently: give one of the types another name`);
      }
      schemas.set(name, schema);
    }
  }
  const declarations = [...schemas]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, schema]) => declaration(nameOf(name), schema));
  return `${banner}\n${declarations.join("\n")}`;
}

function declaration(name, schema) {
  if (schema.type !== "object" || schema.properties === undefined)
    return `${comment(schema)}export type ${name} = ${typeOf(schema)};\n`;
  return `${comment(schema)}export interface ${name} {\n${properties(schema)}}\n`;
}

function properties({ properties: fields, required = [] }) {
  return Object.entries(fields)
    .map(([name, schema]) => `  ${comment(schema)}${key(name)}${required.includes(name) ? "" : "?"}: ${typeOf(schema)};\n`)
    .join("");
}

/** @returns {string} */
function typeOf(schema) {
  if (schema.$ref !== undefined) return nameOf(schema.$ref.split("/").at(-1));
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(typeOf))].join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "null":
      return "null";
    case "array":
      return arrayOf(schema);
    case "object":
      return objectOf(schema);
    case undefined:
      return "unknown";
    default:
      throw new Error(`no type for ${JSON.stringify(schema)}`);
  }
}

function arrayOf({ items, prefixItems }) {
  if (prefixItems !== undefined) return `readonly [${prefixItems.map(typeOf).join(", ")}]`;
  const item = items === undefined ? "unknown" : typeOf(items);
  return `readonly ${item.includes("|") ? `(${item})` : bracketed(item)}[]`;
}

const bracketed = (item) => (item.startsWith("readonly ") ? `(${item})` : item);

function objectOf(schema) {
  if (schema.properties !== undefined) return `{ ${properties(schema).replaceAll("\n", " ")} }`;
  const values = schema.additionalProperties;
  return `Readonly<Record<string, ${values === undefined || values === true ? "unknown" : typeOf(values)}>>`;
}

const comment = ({ description }) => (description === undefined ? "" : `/** ${description.replaceAll(/\s+/g, " ").trim()} */\n`);
const key = (name) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name));
/** `Error` and the like are words of the language. */
const nameOf = (name) => (name === "Error" ? "ServiceError" : name.replaceAll(/\W/g, "_"));
