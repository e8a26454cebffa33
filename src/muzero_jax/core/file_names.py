"""The names of the files and folders that runs and sweeps consist of."""

# In the folder of a run.
CONFIG_FILE = "config.yaml"
VERSIONS_FILE = "versions.json"
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.csv"
RESULT_FILE = "result.json"
SCORES_FILE = "evaluation_scores.csv"
LEARNING_CURVE_FILE = "learning_curve.png"
TENSORBOARD_FOLDER = "tensorboard"
CHECKPOINTS_FOLDER = "checkpoints"
FAILURE_FOLDER = "failure"

# In the folder of a sweep.
SWEEP_FILE = "sweep.yaml"
MEMBERS_FOLDER = "members"
OUTCOME_FILE = "outcome.json"
TABLE_FILE = "table.csv"
PARQUET_FILE = "table.parquet"
REPORT_FILE = "report.html"
JOURNAL_FILE = "journal.log"
