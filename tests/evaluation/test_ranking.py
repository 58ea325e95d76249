import numpy as np
import pytest

from taoemb.config import EncoderConfig
from taoemb.data.dataset import open_dataset
from taoemb.errors import InputError
from taoemb.evaluation import ranking
from taoemb.evaluation.qrels import group
from taoemb.evaluation.systems import encoders, open_system

DEPTH = 20


@pytest.fixture
def opened(shop):
    data = open_dataset(shop, need=("items", "queries", "judgments"))
    return data, group(data.judgments, np.arange(len(data.queries)))


def rank(sources, opened, settings):
    data, qrels = opened
    systems = [open_system(name, source, settings.encoder) for name, source in sources.items()]
    return ranking.rank_all(systems, data.queries.texts, data.items, qrels, DEPTH, settings)


def test_a_release_ranks_by_the_cosine_of_its_two_encoders(opened, child, settings):
    data, qrels = opened
    found = rank({"child": child.path}, opened, settings)["child"]
    query_encoder, item_encoder = child.query_encoder(), child.item_encoder()
    items = item_encoder.encode(data.items.texts(np.arange(len(data.items)), item_encoder.item_template), "item")
    scores = query_encoder.encode(data.queries.texts, "query").astype(np.float64) @ items.T.astype(np.float64)
    np.testing.assert_allclose(np.take_along_axis(scores, found.rows_QK, 1), found.scores_QK, atol=1e-6)
    np.testing.assert_allclose(found.scores_QK, -np.sort(-scores, axis=1)[:, :DEPTH], atol=1e-6)
    np.testing.assert_allclose(found.judged_scores_J, scores[qrels.owners, qrels.item_rows], atol=1e-6)


def test_systems_with_one_item_encoder_embed_the_catalogue_once(opened, parent, child, settings, monkeypatch):
    embedded = []
    embed = ranking.embed_catalogue
    monkeypatch.setattr(ranking, "embed_catalogue", lambda *args: embedded.append(1) or embed(*args))
    together = rank({"child": child.path, "BM25": "bm25", "parent": parent.path}, opened, settings)
    assert list(together) == ["child", "BM25", "parent"]
    assert len(embedded) == 1
    alone = rank({"parent": parent.path}, opened, settings)
    np.testing.assert_array_equal(alone["parent"].rows_QK, together["parent"].rows_QK)
    assert not np.array_equal(together["child"].rows_QK, together["parent"].rows_QK)


def test_a_model_name_is_ranked_zero_shot_without_adapters(opened, model_folders, parent, settings):
    with_adapters = settings.model_copy(
        update={"encoder": EncoderConfig.model_validate({"lora": {"rank": 2}, "query_template": "find {text}"})}
    )
    system = open_system("model", str(model_folders[0]), with_adapters.encoder)
    query, item = encoders(system, with_adapters.encoder, "cpu")
    assert query is item
    assert not any("lora" in name for name, _ in query.named_parameters())
    assert query.spec.query_template == "find {text}"
    release_query, _ = encoders(open_system("r", parent.path, with_adapters.encoder), with_adapters.encoder, "cpu")
    assert release_query.spec.query_template == "{text}"  # a release keeps its own


def test_bm25_orders_judged_items_by_its_ranking_and_ties_the_rest(opened, settings):
    data, qrels = opened
    found = rank({"bm25": "bm25"}, opened, settings)["bm25"]
    for query in range(3):
        mine = qrels.owners == query
        rows, scores = qrels.item_rows[mine], found.judged_scores_J[mine]
        places = {row: place for place, row in enumerate(found.rows_QK[query].tolist()) if row >= 0}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row in places:
                assert score == -places[row]
        colour, kind = data.queries.texts[query].split()
        titles = data.items.column("title").take(rows).to_pylist()
        unmatched = [s for s, title in zip(scores, titles, strict=True) if colour not in title and kind not in title]
        assert set(unmatched) == {-float(len(data.items))}


def test_a_ranking_is_never_deeper_than_the_catalogue(opened, child, settings):
    data, qrels = opened
    system = open_system("child", child.path, settings.encoder)
    found = ranking.rank_all([system], data.queries.texts, data.items, qrels, 10_000, settings)["child"]
    assert found.rows_QK.shape == (len(data.queries), len(data.items))


def test_a_changed_release_and_a_missing_one_are_refused(child, tmp_path, settings):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(child.path, copy)
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="was changed after the release was made"):
        open_system("copy", copy, settings.encoder)
    with pytest.raises(InputError, match="gone: no release and no model"):
        open_system("gone", tmp_path / "none" / "here", settings.encoder)
