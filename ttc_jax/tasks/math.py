"""MATH: competition problems in five levels, split 12,000/500 as in Snell et al. (2024)."""

from ttc_jax.tasks.data_set import DataSet, Download

# The sums are those that the repository itself gives for these files (Git LFS).
_FOLDER = (
    "https://github.com/openai/prm800k/raw/"
    "00811d6de065642a6967b9017d4cee59550c0ef4/prm800k/math_splits"
)


class Math(DataSet):
    """12,500 problems of Hendrycks et al. (2021), split by Lightman et al. (2023).

    The test part is known as MATH-500. `unique_id` is a problem's place in the original data set,
    whatever the split.
    """

    name = "math"
    downloads = (
        Download(
            "train",
            f"{_FOLDER}/train.jsonl",
            10_896_985,
            "90d96daeac3fe343ebb1e22ce93dd99690f75983e957f88de42f87cffe1e8076",
        ),
        Download(
            "test",
            f"{_FOLDER}/test.jsonl",
            446_564,
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        ),
    )
    homepage = "https://github.com/openai/prm800k"
    license = "MIT"
