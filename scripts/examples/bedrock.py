"""Bedrock over boto3: one client, or `cached(session)` for all that a session makes."""

import boto3
from _provider import QUESTION, asked

from casstore import cached

with asked("AWS_BEARER_TOKEN_BEDROCK", "endpoint_url", "") as where:
    client = cached(boto3.client("bedrock-runtime", region_name="us-east-1", **where.options), where.cache)
    ask = {
        "modelId": "amazon.nova-micro-v1:0",
        "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
    }
    replies = [client.converse(**ask) for _ in range(2)]
    where.tell(*(reply["output"]["message"]["content"][0]["text"] for reply in replies))
