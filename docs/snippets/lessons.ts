// A function behind the authorizer, on an HTTP API or a REST API: says who is calling.
import type { APIGatewayProxyEventV2WithLambdaAuthorizer, APIGatewayProxyWithLambdaAuthorizerEvent } from "aws-lambda";

type Context = { user_id: string; session_id: string; roles?: string };
type Event = APIGatewayProxyEventV2WithLambdaAuthorizer<Context> | APIGatewayProxyWithLambdaAuthorizerEvent<Context>;

export function caller({ requestContext: { authorizer } }: Event) {
  const { user_id, session_id, roles = "" } = "lambda" in authorizer ? authorizer.lambda : authorizer;
  return { user_id, session_id, roles: roles.split(",").filter((role) => role) };
}

export async function handler(event: Event) {
  return { statusCode: 200, headers: { "content-type": "application/json" }, body: JSON.stringify(caller(event)) };
}
