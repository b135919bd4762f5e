"""How fast is the learner, beside other packages and beside the environment (make bench)."""
