/** Errors as the engine reads them. */
import { Metadata, status, type ServiceError } from "@grpc/grpc-js";
import any from "google-protobuf/google/protobuf/any_pb.js";
import proto from "@pulumi/pulumi/proto/provider_pb.js";
import rpc from "@pulumi/pulumi/proto/status_pb.js";
import { toStruct, type Properties } from "./values.js";

/** An error that carries a resource: it exists, and its making did not end. */
export class CarriesResource extends Error {
  readonly id: string;
  readonly properties: Properties;

  constructor(id: string, properties: Properties, reason: string) {
    super(reason);
    this.id = id;
    this.properties = properties;
  }
}

/** What a failed call answers with. */
export function serviceError(error: unknown): ServiceError {
  const message = error instanceof Error ? error.message : String(error);
  const metadata = error instanceof CarriesResource ? resourceDetails(error) : new Metadata();
  return Object.assign(new Error(message), { code: status.UNKNOWN, details: message, metadata });
}

/** The engine looks for the resource in a message of Google's, packed into a header of gRPC's. */
function resourceDetails({ id, properties, message }: CarriesResource): Metadata {
  const detail = new proto.ErrorResourceInitFailed();
  detail.setId(id).setProperties(toStruct(properties)).setReasonsList([message]);
  const packed = new any.Any();
  packed.pack(detail.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
  const answer = new rpc.Status().setCode(status.UNKNOWN).setMessage(message);
  answer.addDetails(packed);
  const metadata = new Metadata();
  metadata.add("grpc-status-details-bin", Buffer.from(answer.serializeBinary()));
  return metadata;
}
