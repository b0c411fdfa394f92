"""Record and replay: what hardware and its numerics did to a training, apart from everything else.

A stretch of a training is recorded on machine A (`record`) and repeated on machine B (`replay`), which asks two
questions: is each step computed right here (teacher-forced, against float64), and do the losses diverge more
than rounding explains (free-running, against an envelope)?
"""
