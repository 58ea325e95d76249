"""The generated shop's own grading rules behind the judge's protocol: the best judge that Retrieval-GRPO could have.

    taoemb data synth --out shop --items 5000 --queries 2000 --seed 1
    taoemb data split --data shop --out split
    taoemb train sft --data split/train --out sft --set sft.steps=100
    python benchmarks/quality/rule_judge.py shop 8790 &
    taoemb train grpo --data split/train --release sft/release --out grpo --judge-url http://127.0.0.1:8790/v1 \
        --set judge.batch_size=64 --set 'grpo={steps: 150, k: 16}' --set 'rewards={quality: 0, exclusivity: 0}'
    taoemb evaluate --release grpo/release --baseline sft/release --data split/test --out report

Held against a trained judge on the same data, it tells how much of a gain the judge costs.
"""

import sys
from pathlib import Path

import uvicorn

from taoemb.data.dataset import open_dataset
from taoemb.data.truth import Truth
from taoemb.judge.rules import RuleJudge

if __name__ == "__main__":
    judge = RuleJudge(Truth(open_dataset(Path(sys.argv[1]), need=("items", "queries"))))
    uvicorn.run(judge.application(), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
