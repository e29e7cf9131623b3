"""A trained model in the forms in which it may be deployed, each scored on the trial's own test rows.

    building    writes a form's files from the kept weights
    quantising  8- and 4-bit weights by bitsandbytes
    onnx_graph  an ONNX graph, and a model that onnxruntime computes
    loading     loads a model of transformers, its tokenizer and the test rows
    subjects    loads any form: what is scored
    plain       the export's own code, run by a process that cannot import tuneoff (`plain_script`)
    scoring     scores and times a form as a trial does its test

A form is built in one process and scored in another, which holds nothing but what the form needs.
"""
