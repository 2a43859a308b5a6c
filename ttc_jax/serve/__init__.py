"""The server: an endpoint of OpenAI's API that spends compute where it helps."""
