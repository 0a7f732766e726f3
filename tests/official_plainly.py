"""The official recipe once more, plainly: one row at a time, with the tables that the official builder uses, and with
the invented texts of `official.BUILDER` in it. What the resolvers give is held against it."""

import random
import re
from typing import Any

from official import OBJECTS, PADDING, RECORDS

from speed_bench.data.o200k import decode, encode
from speed_bench.data.official.rows import Published


def plainly(row: Published, num_tokens: int | None, state: dict[str, Any]) -> list[str]:
    """The prompts of a masked row: the recipe, written once more, with the invented texts in it."""
    template, mark = row.template, row.source
    numbers = [int(each) for each in re.findall(r"_(\d+)", row.src_id)]
    found = lambda source, file, key: next(each for each in RECORDS[source, file] if each[key] == row.src_id)  # noqa: E731
    if "BAMBOO" in mark:
        file = f"datasets/{mark.rpartition('/')[2]}"
        chosen = [RECORDS["bamboo", file][i]["content"] for i in numbers]
        talks = "\n--\n".join(f"<{i + 1}>\n{each}\n</>" for i, each in enumerate(chosen))
        return [_cut(f"\nCarry these talks on. \n\n{talks}\n", num_tokens)]
    if "cnn_dailymail" in mark:
        return [template.format(article=found("cnn_dailymail", "3.0.0/test", "id")["article"])]
    if "cais/hle" in mark:
        return [_expert_plainly(row.src_id, num_tokens, state)]
    if "livecodebench" in mark:
        every = [each for (source, _), rows in RECORDS.items() if source == "livecodebench" for each in rows]
        record = next(each for each in every if each["question_id"] == row.src_id)
        return [template.format(question=record["question_content"], starter_code=record["starter_code"])]
    if "code_contests" in mark:
        return [template.format(question=found("code_contests", "default/test", "name")["description"])]
    if "mt-bench-101" in mark:
        record = RECORDS["mtbench101", "data/subjective/mtbench101.jsonl"][int(row.src_id.rsplit("_", 1)[1])]
        return [each["user"] for each in record["history"]]
    if "opus-100" in mark:
        return [
            template.format(question=RECORDS["opus100", "de-en/test"][int(row.src_id.split("_")[2])]["translation"])
        ]
    if "ChatRAG" in mark:
        record = [*RECORDS["chatrag_bench", "hybridial/test"], *RECORDS["chatrag_bench", "sqa/test"]][numbers[-1]]
        context = "\n***\n".join(each["text"] for each in record["ctxs"])
        first, *further = [each["content"] for each in record["messages"] if each["role"] == "user"]
        return [f"Answer at length. \n\nGiven:\n{context}\n\nAsked:\n{first}", *further]
    if "MMLU-Pro" in mark:
        start = int(row.src_id.split("(")[1].split(",")[0])
        turns = []
        for record in RECORDS["mmlu_pro", "default/test"][start : start + len(row.turns)]:
            options = "\n".join(f"[{'ABCDEFGHIJ'[i]}] {each}" for i, each in enumerate(record["options"]))
            turns.append(f"Q: {record['question']}\nO: {options}\n")
        return [f"About {row.sub_category}. End with {{letter}}.\n{turns[0]}", *turns[1:]]
    if "stackselect" in mark:
        return [
            _cut(_stack_plainly(found("adaleval", "data/stackselect_1k.json", "question_id"), num_tokens), num_tokens)
        ]
    if "textsort" in mark:
        prompt = RECORDS["adaleval", "data/textsort_1k.json"][int(row.src_id.split("_")[1])]["prompt"]
        return [
            _cut(prompt.replace("\n  Put the parts in order. \n", "\nWrite the parts out in order.  \n", 1), num_tokens)
        ]
    if "RoleBench" in mark:
        every = RECORDS["rolebench", f"rolebench-eng/{row.src_id.split('_')[1]}/role_specific/test.jsonl"]
        questions = [every[i]["question"] for i in numbers[: len(row.turns)]]
        role = every[numbers[0]]["role"]
        text = OBJECTS["rolebench", "profiles-eng/desc.json"][role]
        first = template.format(role_name=role, role_description_and_catchphrases=text) + "\n" + questions[0]
        return [first, *(each.removeprefix(f"{role}, ").removeprefix(f" {role},") for each in questions[1:])]
    return [_scene_plainly(RECORDS["coser", "test/test_set.json"][numbers[0]])]


def _cut(prompt: str, num_tokens: int) -> str:
    tokens, padding = encode(prompt), encode(PADDING)
    if len(tokens) < num_tokens:
        repeats = (num_tokens - len(tokens) + len(padding) - 1) // len(padding)
        tokens = encode(prompt + PADDING * repeats)
    return decode(tokens[:num_tokens])


def _stack_plainly(record: dict[str, Any], num_tokens: int) -> str:
    import numpy as np

    answers, right = np.array(record["all_answers"], dtype=object), int(record["answer"].strip("A")) - 1
    prompt = f"\nPick the reply that helps most.   \nAsked:\n{record['question']}\n~\nReplies:\n"
    closing = "Name the best one. \nSay why.\n"
    spent = len(encode(prompt)) + len(encode(closing)) + len(encode(f"{record['answer']} = {answers[right]}\n"))
    stop = 0
    for i, answer in enumerate(answers):
        if i == right:
            continue
        if spent + len(encode(f"A{i + 1} = {answer}\n")) > num_tokens:
            break
        stop = i
    chosen = answers[: stop + 1] if stop >= right else [answers[right]] + answers[: stop + 1]  # noqa: RUF005 - an array
    random.seed(42)
    random.shuffle(chosen)
    return prompt + "".join(f"A{i + 1} = {answer}\n" for i, answer in enumerate(chosen)) + closing


def _expert_plainly(name: str, num_tokens: int | None, state: dict[str, Any]) -> str:
    import numpy as np
    from datasets import Dataset

    exam = RECORDS["hle", "default/test"]
    if num_tokens is None:
        return next(each["question"] for each in exam if each["id"] == name)
    halves = Dataset.from_list(exam).train_test_split(test_size=0.5, shuffle=True, seed=42)
    train, test = halves["train"].to_pandas(), halves["test"].to_pandas()
    asked = test[test["id"] == name].iloc[0]
    examples = train[(train["image"] == "") & (train["category"] == asked["category"])]
    draws = state.setdefault("draws", np.random.default_rng(42))
    ids, question = (
        encode(f"Answer the last one.\n\nFirst some others of {asked['category']}:\n\n"),
        encode(asked["question"]),
    )
    while len(ids) + len(question) < num_tokens:
        drawn = examples.sample(1, random_state=draws).iloc[0]
        ids += encode(f"Asked: {drawn['question']}\nTold: {drawn['rationale']}\n\n")
    return decode(ids[: num_tokens - len(question) + 1] + question)


def _scene_plainly(record: dict[str, Any]) -> str:
    import numpy as np

    who = np.random.default_rng(seed=12347).choice(record["major_characters"])
    profiles = record["character_profiles"]
    wishes = {each["name"]: each["motivation"] for each in record["key_characters"]}
    others = "\n\n".join(f"{name}: {profiles[name]}" for name in profiles if name != who and profiles[name] is not None)
    return (
        f"Be {who} of {record['book']}.\n[{who}]\n{profiles[who]}\n[Where]\n{record['scenario']}\n[Others]\n{others}\n"
        f"[Wish]\n{wishes.get(who, 'nothing in particular')}"
    )
