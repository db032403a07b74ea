"""Errors of /v1/score as the openai package reads them. Arguments: base URL, model."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)


def score(**fields):
    body = {"model": sys.argv[2], "query": [1, 2], "items": [[3]], "label_token_ids": [4]} | fields
    return client.post("/score", body=body, cast_to=object)


def refused(kind, status, code, param, **fields):
    try:
        score(**fields)
    except openai.APIStatusError as error:
        found = (type(error), error.status_code, error.code, error.param, error.type)
        assert found == (kind, status, code, param, "invalid_request_error"), found
        assert error.body["message"], error.body
    else:
        raise AssertionError(f"{fields} was accepted")


answer = score()
assert answer["object"] == "scoring" and len(answer["scores"]) == 1, answer
assert [model.id for model in client.models.list()] == [sys.argv[2]]
refused(openai.BadRequestError, 400, "empty_items", "items", items=[])
refused(openai.BadRequestError, 400, "model_not_found", "model", model="gpt-4")
refused(openai.BadRequestError, 400, "negative_token_id", "query[0]", query=[-1])
refused(openai.UnprocessableEntityError, 422, "token_id_exceeds_vocab", "label_token_ids[0]", label_token_ids=[10**9])
refused(openai.UnprocessableEntityError, 422, "prompt_too_long", "items[0]", items=[[1] * 5000])
print("5 errors as documented")
