def test_one_chat_call_from_the_launcher_to_an_event(run_program):
    ran = run_program(
        """
        from openai import OpenAI
        answer = OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
        print(answer.choices[0].message.content)
        """
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    (event,) = ran.events
    assert event["event"] == "$ai_generation"
    assert event["properties"]["$ai_input"] == [{"role": "user", "content": "Hello"}]
    assert event["properties"]["$ai_output_choices"] == [
        {"role": "assistant", "content": [{"type": "text", "text": ran.stdout.rstrip("\n")}]}
    ]


def test_the_test_process_is_instrumented(client, captured):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    (event,) = captured(1)
    assert event["properties"]["$ai_http_status"] == 200
