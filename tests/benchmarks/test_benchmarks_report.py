import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

import json

from benchmarks import compare, report
from benchmarks.peers import is_historyless


class TestReport:
    @staticmethod
    def record(method, task, seed, regrets):
        return {
            **{"family": "rpart", "task": task, "method": method, "seed": seed},
            **{"history": "none" if is_historyless(method) else "good", "split": "history"},
            **{"regrets": regrets, "milliseconds": [1.0] * len(regrets)},
        }

    def test_only_pairs_that_all_methods_completed_are_compared(self):
        records = [
            self.record("tpe", "1", 0, [0.4, 0.2]),
            self.record("meta", "1", 0, [0.2, 0.1]),
            self.record("tpe", "2", 0, [0.9, 0.9]),
        ]
        (compared,) = compare.group(records).values()
        assert compared.methods == ("tpe", "meta")
        assert compared.tasks == ("rpart/1",)
        np.testing.assert_allclose(compared.ranks, [[[2, 2]], [[1, 1]]])
        for versus in compare.against_best_peer(compared, [1, 2]):
            assert versus.peer == "tpe"
            assert versus.ratio == versus.low == versus.high == 0.5
            assert versus.tasks_behind == 0

    def test_seeds_are_averaged_before_tasks(self):
        records = [
            self.record("tpe", "1", 0, [0.0]),
            self.record("tpe", "1", 1, [0.2]),
            self.record("tpe", "2", 0, [0.5]),
        ]
        (compared,) = compare.group(records).values()
        np.testing.assert_allclose(compared.by_task[0, :, 0], [0.1, 0.5])
        low, high = compare.interval(compared.by_task)
        np.testing.assert_allclose([low[0, 0], high[0, 0]], [0.1, 0.5])

    def test_trials_to_reach_what_tpe_has_in_the_end(self):
        records = [
            self.record("tpe", "1", 0, [0.5, 0.3, 0.2]),
            self.record("gp", "1", 0, [0.5, 0.5, 0.5]),
            self.record("meta", "1", 0, [0.4, 0.2, 0.1]),
            self.record("tpe", "2", 0, [0.9, 0.9, 0.8]),
            self.record("gp", "2", 0, [0.8, 0.1, 0.1]),
            self.record("meta", "2", 0, [0.9, 0.8, 0.1]),
        ]
        (compared,) = compare.group(records).values()
        assert compared.methods == ("tpe", "gp", "meta")
        reached = compare.trials_to_reach(compared)
        assert reached == [(3.0, 1.0), (np.inf, 0.5), (2.0, 1.0)]
        np.testing.assert_allclose(
            compare.share_worse(compared, [1, 3]), [[0.5, 0.5], [0, 0], [0.5, 0]]
        )

    def test_live_regrets_are_against_the_best_of_all_runs(self):
        bounds = {"best": 1.0, "worst": 0.0, "exact": False}
        records = [
            self.record("tpe", "1", 0, [0.5, 0.0]) | {"values": [0.5, 1.0], "bounds": bounds},
            self.record("meta", "1", 0, [0.0, 0.0]) | {"values": [2.0, 1.0], "bounds": bounds},
        ]
        (compared,) = compare.group(records).values()
        np.testing.assert_allclose(compared.regrets[:, 0], [[0.75, 0.5], [0, 0]])

    def test_the_report_says_where_metasampler_is_behind_and_by_how_much(self, tmp_path, capsys):
        lines = [
            self.record("tpe", "1", 0, [0.2, 0.2]),
            self.record("gp", "1", 0, [0.4, 0.1]),
            self.record("meta", "1", 0, [0.3, 0.05]),
            self.record("meta-no-trust", "1", 0, [0.3, 0.06]),
        ]
        path = tmp_path / "runs.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        out, curves, bars = (tmp_path / name for name in ("r.md", "curves.png", "bars.png"))
        plots = ("--plot", str(curves), "--ablations", str(bars))
        assert report.main([str(path), "--markdown", str(out), *plots]) == 0
        text = out.read_text()
        assert text == capsys.readouterr().out.removesuffix("\n")
        behind = text.split("## Where meta is behind")[1].split("##")[0]
        rows = [line for line in behind.splitlines() if line.startswith("| rpart")]
        assert rows == [
            "| rpart | 1 | tpe | 0.3000 | 0.2000 | 0.1000 | 1.50 [1.50, 1.50] | 100% |"
        ]
        assert "meta-no-trust" not in text.split("# Ablations")[0]
        assert "meta-no-trust" in text.split("# Ablations")[1]
        assert min(curves.stat().st_size, bars.stat().st_size) > 0

    def test_the_report_begins_with_a_line_for_each_family(self, tmp_path, capsys):
        lines = [
            self.record("tpe", "1", 0, [0.2, 0.2]),
            self.record("gp", "1", 0, [0.4, 0.1]),
            self.record("meta", "1", 0, [0.3, 0.05]),
            self.record("meta-none", "1", 0, [0.2, 0.2]),
            self.record("meta", "1", 0, [0.5, 0.1]) | {"history": "negated"},
        ]
        path = tmp_path / "runs.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert report.main([str(path)]) == 0
        tables = capsys.readouterr().out.split("## ")[1:4]
        assert [table.splitlines()[0] for table in tables] == [
            "`meta` beside the best peer",
            "`meta-none` beside `gp`",
            "`meta (negated)` beside `meta-none`",
        ]
        assert [table.splitlines()[6].split(" | ")[1] for table in tables] == [
            "0.300 / 0.200 = **1.50**",
            "0.200 / 0.400 = **0.50**",
            "0.500 / 0.200 = **2.50**",
        ]

    def test_the_brief_report_is_one_table(self, tmp_path, capsys):
        lines = [
            self.record("tpe", "1", 0, [0.2, 0.2, 0.1]) | {"cpu_seconds": 1.5},
            self.record("meta", "1", 0, [0.3, 0.05, 0.05]) | {"cpu_seconds": 2.0},
        ]
        path = tmp_path / "runs.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert report.main([str(path), "--brief"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "| method | 1 | 3 | rank at 3 | CPU s a run |",
            "| --- | --- | --- | --- | --- |",
            "| tpe | **0.200** | 0.100 | 2.0 | 1.5 |",
            "| meta | 0.300 | **0.050** | **1.0** | 2.0 |",
        ]

    def test_a_missing_file_is_named(self, tmp_path, capsys):
        assert report.main([str(tmp_path / "none.jsonl")]) == 2
        assert "none.jsonl" in capsys.readouterr().err
