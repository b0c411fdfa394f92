"""Record and replay: what hardware and its numerics did to a training, apart from everything else.

A stretch of a training is recorded on one machine (`record`) and repeated on another one (`replay`), which asks two
questions: is each step computed right here (teacher-forced, against float64), and do the losses part more than
rounding explains (free-running, against an envelope)?
"""
