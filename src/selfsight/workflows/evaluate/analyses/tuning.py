"""Transfer: fine-tuning of a copy of the network with labels."""

from selfsight.render.charts import draw_transfer
from selfsight.tasks.classify import finetune
from selfsight.tasks.detect import detect
from selfsight.tasks.segment import segment
from selfsight.workflows.evaluate.analyses.analysis import Analysis, named

__all__ = ["DETECTION", "FINETUNING", "SEGMENTATION"]

DETECTION = Analysis(detect, draw=draw_transfer)
FINETUNING = Analysis(finetune, draw=draw_transfer)
SEGMENTATION = Analysis(segment, named("mean IoU"), draw_transfer)
